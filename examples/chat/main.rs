//! A chat of many rooms on every core: presence, the last words for who comes late, reconnecting.
//!
//! Run with: `cargo run --release --features ws --example chat`
//! Try: two browsers on http://127.0.0.1:8080/#rust, and `curl -N http://127.0.0.1:8080/sse/rust`
//! beside them. Stop the server and start it again: they come back.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use soloist::prelude::*;
use soloist::{Message, WhenFull, WsDeflate, WsOptions};

#[path = "../common/args.rs"]
mod args;

const NAME_CHARS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 2_000;

fn main() -> Result<()> {
    args::server()?.run(app)
}

async fn app(shard: Shard) -> Result<App<()>> {
    shard.replay("room/*", 50); // the last words, for those who come late
    let options = WsOptions::new()
        .message_bytes_max(16 * 1024)
        .deflate(WsDeflate::Shared)
        .when_full(WhenFull::DropOldest);
    Ok(App::new(())
        .get("/", async |cx| cx.html(include_str!("page.html")))
        .ws_with("/ws/:room", options, room)
        .get("/sse/:room", async |cx| cx.sse(&heard_in(cx.param("room")?)).await)
        .get("/who/:room", who))
}

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Said<'a> {
    Hello { name: &'a str },
    Say { text: std::borrow::Cow<'a, str> },
    Typing,
    Ping { at: f64 },
}

/// What it hears.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Heard<'a> {
    Welcome { shard: usize, name: &'a str },
    Say { from: &'a str, text: &'a str, at: u64 },
    Typing { from: &'a str },
    Here,
    Pong { at: f64 },
}

async fn room(cx: &Ctx<()>, ws: &mut Ws) -> Result<()> {
    let words = heard_in(cx.param("room")?); // kept for who comes late
    let notes = format!("note/{}", cx.param::<&str>("room")?); // of the moment only
    let mut name = String::new();
    while let Some(message) = ws.recv().await? {
        match message.read_json()? {
            Said::Hello { name: wanted } => {
                name = wanted.trim().chars().take(NAME_CHARS_MAX).collect();
                if name.is_empty() {
                    ws.close(4000, "a name is needed");
                    continue;
                }
                ws.set_name(&name);
                let welcome = Heard::Welcome { shard: cx.shard().id(), name: &name };
                ws.send(Message::json(&welcome)?).await?;
                ws.join(&words)?;
                ws.join(&notes)?;
                cx.publish(&notes, Message::json(&Heard::Here)?);
            }
            Said::Ping { at } => ws.send(Message::json(&Heard::Pong { at })?).await?,
            _ if name.is_empty() => ws.close(4000, "say hello first"),
            Said::Typing => {
                ws.publish_others(&notes, Message::json(&Heard::Typing { from: &name })?);
            }
            Said::Say { text } => {
                let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
                if !text.is_empty() {
                    let said = Heard::Say { from: &name, text: &text, at: now_ms() };
                    cx.publish(&words, Message::json(&said)?);
                }
            }
        }
    }
    ws.leave(&words);
    ws.leave(&notes);
    cx.publish(&notes, Message::json(&Heard::Here)?);
    Ok(())
}

/// Who is in a room, on every core.
async fn who(cx: &Ctx<()>) -> Result<Reply> {
    let room = heard_in(cx.param("room")?);
    let presence = cx.shard().presence(&room).await?;
    let mut names: Vec<String> = presence.names.into_iter().map(|(_, name)| name).collect();
    names.sort();
    cx.json(&names)
}

fn heard_in(room: &str) -> String {
    format!("room/{room}")
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
