//! The page of a directory.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::SystemTime;

use httpdate::HttpDate;

use crate::app::ctx::Ctx;
use crate::app::reply::Reply;
use crate::error::Result;
use crate::http::location::PathSegment;
use crate::limits::LISTING_ENTRIES_MAX;

struct Entry {
    name: String,
    is_dir: bool,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// Answers with what a directory holds: folders first, then files, by name.
pub(super) async fn show<S>(cx: &Ctx<S>, dir: Rc<File>, path: &str, hidden: bool) -> Result<Reply> {
    let own = dir.try_clone()?;
    let (mut entries, more) = cx.shard().blocking(move || read(&own, hidden)).await??;
    entries.sort_by(|a, b| (!a.is_dir, &a.name).cmp(&(!b.is_dir, &b.name)));
    cx.set_header("cache-control", "no-cache");
    cx.set_header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
    cx.html(page(path, &entries, more))
}

/// The directory itself, whatever its name leads to by now.
fn read(dir: &File, hidden: bool) -> std::io::Result<(Vec<Entry>, bool)> {
    let (mut entries, mut more) = (Vec::new(), false);
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))? {
        let entry = entry?;
        // A name that no URL of ours has cannot be asked for.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(facts) = entry.metadata() else { continue };
        if !crate::files::tree::is_safe(&name, hidden) || !(facts.is_dir() || facts.is_file()) {
            continue;
        }
        if entries.len() == LISTING_ENTRIES_MAX {
            more = true;
            break;
        }
        let (is_dir, bytes, modified) = (facts.is_dir(), facts.len(), facts.modified().ok());
        entries.push(Entry { name, is_dir, bytes, modified });
    }
    Ok((entries, more))
}

fn page(path: &str, entries: &[Entry], more: bool) -> String {
    let mut out = String::with_capacity(1024 + entries.len() * 160);
    let title = if path.is_empty() { "Files" } else { path };
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\
         <style>{STYLE}</style><main><h1>{}</h1><table><thead><tr><th>Name<th>Size<th>Changed\
         </thead><tbody>",
        Text(title),
        Crumbs(path),
    );
    if !path.is_empty() {
        out.push_str("<tr class=\"dir\"><td><a href=\"../\">..</a><td><td>");
    }
    for entry in entries {
        let (class, slash) = if entry.is_dir { ("dir", "/") } else { ("file", "") };
        let _ = write!(
            out,
            "<tr class=\"{class}\"><td><a href=\"./{}{slash}\">{}{slash}</a><td>",
            PathSegment(&entry.name),
            Text(&entry.name),
        );
        if !entry.is_dir {
            let _ = write!(out, "{}", Size(entry.bytes));
        }
        out.push_str("<td>");
        if let Some(modified) = entry.modified {
            let date = HttpDate::from(modified).to_string();
            out.push_str(date.get(5..22).unwrap_or_default()); // 06 Nov 1994 08:49
        }
    }
    out.push_str("</tbody></table>");
    let files = entries.iter().filter(|it| !it.is_dir);
    let (count, bytes) = files.fold((0, 0), |(n, sum), it| (n + 1, sum + it.bytes));
    let _ = write!(out, "<p>{count} files, {}", Size(bytes));
    if more {
        let _ = write!(out, "; only the first {LISTING_ENTRIES_MAX} entries are shown");
    }
    out.push_str("</main></html>");
    out
}

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
main{max-width:56rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.25rem;font-weight:600;overflow-wrap:anywhere}\
table{width:100%;border-collapse:collapse}\
th{font-size:.8rem;font-weight:500;text-align:left;opacity:.6}\
th,td{padding:.4rem .5rem;border-bottom:1px solid color-mix(in srgb,currentColor 12%,transparent)}\
td:nth-child(n+2),th:nth-child(n+2){text-align:right;white-space:nowrap;\
font-variant-numeric:tabular-nums}\
td:first-child{width:100%;overflow-wrap:anywhere}\
td:nth-child(n+2){opacity:.7}\
tbody tr:hover{background:color-mix(in srgb,currentColor 5%,transparent)}\
a{text-decoration:none}a:hover{text-decoration:underline}\
.dir a{font-weight:600}p{opacity:.6;font-size:.85rem}\
@media(max-width:40rem){th:nth-child(3),td:nth-child(3){display:none}}";

/// Text in a page.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The way to a directory, each step a link.
struct Crumbs<'a>(&'a str);

impl fmt::Display for Crumbs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.0.split('/').filter(|it| !it.is_empty()).collect();
        let up = |f: &mut fmt::Formatter<'_>, steps: usize| match steps {
            0 => f.write_str("./"),
            steps => (0..steps).try_for_each(|_| f.write_str("../")),
        };
        f.write_str("<a href=\"")?;
        up(f, parts.len())?;
        f.write_str("\">Files</a>")?;
        for (at, part) in parts.iter().enumerate() {
            f.write_str(" / <a href=\"")?;
            up(f, parts.len() - 1 - at)?;
            write!(f, "\">{}</a>", Text(part))?;
        }
        Ok(())
    }
}

/// Bytes as people read them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB"];
        let (mut size, mut unit) = (self.0 as f64, "B");
        for next in units {
            if size < 1024.0 {
                break;
            }
            (size, unit) = (size / 1024.0, next);
        }
        match unit {
            "B" => write!(f, "{} B", self.0),
            unit if size < 10.0 => write!(f, "{size:.1} {unit}"),
            unit => write!(f, "{size:.0} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024, "10 KiB"),
            (1_500_000, "1.4 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), want, "{bytes}");
        }
    }

    #[test]
    fn names_are_text_and_links_are_encoded() {
        let entry =
            |name: &str, is_dir| Entry { name: name.into(), is_dir, bytes: 1, modified: None };
        let html = page("a/b", &[entry("<x>&'\"", false), entry("a b#?%:", true)], false);
        assert!(html.contains("&lt;x&gt;&amp;&#39;&quot;"), "{html}");
        assert!(html.contains("href=\"./a%20b%23%3F%25%3A/\""), "{html}");
        assert!(html.contains("<a href=\"../../\">Files</a> / <a href=\"../\">a</a>"), "{html}");
    }
}
