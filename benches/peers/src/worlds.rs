//! TechEmpower's rows, and its page, for the frameworks beside ours: what `examples/techempower`
//! has, line by line.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;

pub const WORLD: &str = "SELECT id, randomnumber FROM world WHERE id = $1";
const WORLDS: i32 = 10_000;
const QUERIES_MAX: usize = 500;
pub const FORTUNES: &str = "SELECT id, message FROM fortune";
pub const UPDATE: &str = "UPDATE world SET randomnumber = new.number \
    FROM (SELECT unnest($1::int[]) AS id, unnest($2::int[]) AS number) AS new \
    WHERE world.id = new.id";

#[derive(Serialize, FromRow)]
pub struct World {
    pub id: i32,
    #[serde(rename = "randomNumber")]
    pub randomnumber: i32,
}

#[derive(FromRow)]
pub struct Fortune {
    pub id: i32,
    pub message: String,
}

/// `?queries=20`
#[derive(Deserialize)]
pub struct Many {
    queries: Option<String>,
}

impl Many {
    pub fn count(&self) -> usize {
        let asked = self.queries.as_ref().and_then(|it| it.parse().ok()).unwrap_or(1);
        usize::clamp(asked, 1, QUERIES_MAX)
    }
}

pub fn random() -> i32 {
    fastrand::i32(1..=WORLDS)
}

/// New numbers: the ids, and theirs.
pub fn change(worlds: &mut [World]) -> (Vec<i32>, Vec<i32>) {
    worlds.sort_by_key(|it| it.id); // everybody locks rows in the same order
    worlds.iter_mut().for_each(|it| it.randomnumber = random());
    worlds.iter().map(|it| (it.id, it.randomnumber)).unzip()
}

pub fn page(mut fortunes: Vec<Fortune>) -> String {
    let message = "Additional fortune added at request time.".to_owned();
    fortunes.push(Fortune { id: 0, message });
    fortunes.sort_by(|a, b| a.message.cmp(&b.message));
    let mut page = String::with_capacity(2048);
    page.push_str("<!DOCTYPE html><html><head><title>Fortunes</title></head><body><table>");
    page.push_str("<tr><th>id</th><th>message</th></tr>");
    for Fortune { id, message } in &fortunes {
        page.push_str("<tr><td>");
        page.push_str(&id.to_string());
        page.push_str("</td><td>");
        escape(message, &mut page);
        page.push_str("</td></tr>");
    }
    page.push_str("</table></body></html>");
    page
}

fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
}
