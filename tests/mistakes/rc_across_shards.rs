//! An `Rc` that would be shared by all cores.
use std::rc::Rc;

use soloist::prelude::*;

fn main() {
    let shared = Rc::new(1);
    let build = async move |_: Shard| Ok(App::shared(shared.clone()));
    let _ = Server::bind("127.0.0.1:0").run(build);
}
