//! A path parameter of a type that `param` does not know.
use std::net::IpAddr;

use soloist::prelude::*;

async fn show(cx: &Ctx<()>) -> Result<Reply> {
    let addr: IpAddr = cx.param("addr")?;
    cx.text(addr.to_string())
}

fn main() {
    App::new(()).get("/:addr", show);
}
