//! A folder to browse, to download from, and to upload to: by tus 1.0.0, so that what a lost
//! connection, a reload or a restart has interrupted goes on where it was. Whoever reaches it may
//! upload: put `basic_auth` around it where that is not meant.
//!
//! Run with: `cargo run --release --features files --example files -- --root DIR`
//! Try: http://127.0.0.1:8080/upload with a large file, pause it, stop the server and start it
//! again; then http://127.0.0.1:8080/, and `curl -r 0-99 http://127.0.0.1:8080/NAME`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use soloist::middleware::{SecureHeaders, secure_headers_with};
use soloist::prelude::*;
use soloist::{Files, Tus, TusUpload};

#[path = "../common/args.rs"]
mod args;

const UPLOAD_BYTES_MAX: u64 = 64 << 30;
const NAME_BYTES_MAX: usize = 200;
/// Numbers that a taken name is tried with.
const NAMES_MAX: u32 = 1_000;

/// Scripts of this page alone. What others have uploaded is never a page with rights here.
const PAGE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
                        connect-src 'self'; base-uri 'none'; form-action 'none'; \
                        frame-ancestors 'none'";
const FILES_CSP: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; \
                         media-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
                         sandbox allow-downloads";

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut root = PathBuf::from("files");
    if let Some(at) = args.iter().position(|it| it == "--root") {
        let mut pair = args.drain(at..args.len().min(at + 2)).skip(1);
        root = pair.next().ok_or_else(|| Error::from("--root: no directory"))?.into();
    }
    // Beside what is served, on the same file system, and hidden from it.
    fs::create_dir_all(root.join(".uploads"))?;
    args::server_of(args.into_iter())?.run(async move |_| app(root))
}

fn app(root: PathBuf) -> Result<App<PathBuf>> {
    let uploads = Tus::new(root.join(".uploads")).bytes_max(UPLOAD_BYTES_MAX).on_done(received);
    let files = Files::new(&root).listing(true).cache_control("no-cache");
    Ok(App::new(root)
        .wrap(secure_headers_with(SecureHeaders::new().csp(FILES_CSP))?)
        .get("/upload", async |cx| {
            cx.set_header("content-security-policy", PAGE_CSP).html(include_str!("page.html"))
        })
        .get("/upload/page.js", async |cx| {
            cx.bytes("text/javascript; charset=utf-8", include_str!("page.js"))
        })
        .tus("/upload/tus", uploads)
        .files_with("/", files))
}

/// Moves a whole upload to where it is served from.
async fn received(cx: &Ctx<PathBuf>, upload: TusUpload) -> Result<()> {
    let named = upload.metadata.iter().find(|(key, _)| key == "filename");
    let name = safe_name(named.map_or("", |(_, name)| name));
    let root = cx.state().clone();
    let stored = cx.shard().blocking(move || store(&upload.path, &root, &name)).await??;
    cx.set_header("x-stored-as", percent(&stored));
    Ok(())
}

/// Gives a file a name that nothing has yet: `a.txt`, `a (2).txt`, and so on.
fn store(from: &Path, root: &Path, name: &str) -> io::Result<String> {
    let (stem, dot) = name.split_at(name.rfind('.').unwrap_or(name.len()));
    for number in 1..=NAMES_MAX {
        let name = if number == 1 { name.to_owned() } else { format!("{stem} ({number}){dot}") };
        // A link, unlike a rename, replaces nothing.
        match fs::hard_link(from, root.join(&name)) {
            Ok(()) => return fs::remove_file(from).map(|()| name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The last part of what a client calls its file, as a name that leads nowhere and is not hidden.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    let clean: String = last.chars().filter(|it| !it.is_control()).collect();
    let mut clean = clean.trim().trim_start_matches('.').trim().to_owned();
    while clean.len() > NAME_BYTES_MAX {
        clean.pop();
    }
    if clean.is_empty() { "upload".to_owned() } else { clean }
}

fn percent(name: &str) -> String {
    let plain = |it: &u8| it.is_ascii_alphanumeric() || b"-._~".contains(it);
    let byte = |it: u8| if plain(&it) { char::from(it).to_string() } else { format!("%{it:02X}") };
    name.bytes().map(byte).collect()
}
