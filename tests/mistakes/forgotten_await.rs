//! A middleware that does not await what comes after it.
use soloist::prelude::*;

async fn log(_: &Ctx<()>, next: Next<'_>) -> Result<Reply> {
    next.run()
}

fn main() {
    App::new(()).wrap(log);
}
