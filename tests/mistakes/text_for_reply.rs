//! A closure that returns bare text.
use soloist::prelude::*;

fn main() {
    App::new(()).get("/", async |_| "hello");
}
