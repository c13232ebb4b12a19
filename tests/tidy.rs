//! The rules of the house, held against the tree: who may know whom, where unsafe may live, what a
//! file looks like. Each rule is also held against a snippet that breaks it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Folders and files of `src/` by floor, as in ARCHITECTURE.md. One knows itself and lower floors,
/// never its neighbours; those of the top floor know everything.
const FLOORS: [&[&str]; 7] = [
    &["base", "error", "limits"],
    &["http", "ws", "ring"],
    &["shard"],
    &["cache", "db", "files", "client", "observe", "remote"],
    &["app"],
    &["middleware"],
    &["server", "testing", "prelude", "lib", "bin"],
];

/// What everyone may name, on whatever floor.
const COMMON: [&str; 2] = ["error", "limits"];

/// Crates that one folder alone may name.
const OWNED: [(&str, &str); 2] = [("glommio", "src/shard/"), ("io_uring", "src/ring/")];

/// Where `unsafe` may be written, as prefixes of paths.
const UNSAFE_ROOMS: [&str; 7] = [
    "src/base/arena.rs",
    "src/ring/",
    "src/shard/waker.rs",
    "src/shard/park.rs",
    "src/shard/pump.rs",
    "src/shard/affinity.rs",
    "src/base/map.rs",
];

const SAFETY_LINES: usize = 4;
const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 700;
const EXAMPLE_HEAD_LINES: usize = 12;

/// Apart, so that they do not stand here.
const LEFTOVER_WORDS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];
const LEFTOVER_MACROS: [&str; 2] = ["todo", "dbg"];
const MACHINE_PATHS: [&str; 2] = ["/home/", "/root/"];
const MACHINE_PATHS_OF_DOCS: [&str; 1] = ["/tmp/"];

/// Inputs, which may hold anything.
const DATA: &str = "fuzz/seeds/";

#[test]
fn files_know_their_own_folder_and_lower_floors() {
    finds(
        floors,
        &[
            ("src/http/head.rs", "use crate::base::text::Span;\nuse super::date;", ""),
            ("src/http/head.rs", "use crate::error::Error;\nuse crate::limits::A;", ""),
            ("src/http/head.rs", "\nuse crate::ring::Ring;", "src/http/head.rs:2: http knows ring"),
            ("src/http/head.rs", "use crate::{base::a, ws::{b, c}};", "http knows ws"),
            ("src/http/head.rs", "use crate::{\n    base::{a, b},\n    app,\n};", "http knows app"),
            ("src/http/head.rs", "fn f() { crate::shard::id(); }", "http knows shard"),
            ("src/http/head.rs", "use crate::Ctx;", "http knows lib.rs by `crate::Ctx`"),
            ("src/http/head.rs", "use super::super::app::Ctx;", "http knows app"),
            ("src/http/mod.rs", "use super::app::Ctx;", "http knows app"),
            ("src/http/mod.rs", "mod tests { use super::head; }", ""),
            ("src/http/mod.rs", "mod tests { use super::super::app; }", "http knows app"),
            ("src/http/head/a.rs", "use super::super::date;", ""),
            ("src/base/clock.rs", "use crate::http::X;", "base knows http"),
            ("src/base/clock.rs", "use crate::error::X;", ""),
            ("src/db/pool.rs", "use crate::cache::X;", "db knows cache"),
            ("src/app/ctx.rs", "// crate::server\nconst A: &str = \"crate::server\";", ""),
            ("src/app/ctx.rs", "pub(crate) struct A;\npub(in crate::app) struct B;", ""),
            (
                "src/app/ctx.rs",
                "macro_rules! m { () => { $crate::server::x() } }",
                "app knows serv",
            ),
            ("src/server.rs", "use crate::testing::x;\nuse crate::Ctx;", ""),
            ("src/lib.rs", "pub use app::Ctx;\npub use crate::ring::x;", ""),
            ("src/attic/a.rs", "", "src/attic/a.rs:1: attic is on no floor"),
        ],
    );
    holds(floors);
}

#[test]
fn one_folder_names_glommio_and_one_io_uring() {
    finds(
        owned_crates,
        &[
            ("src/shard/park.rs", "use glommio::LocalExecutor;", ""),
            ("src/ring/ring.rs", "use io_uring::IoUring;", ""),
            ("src/app/ctx.rs", "/// Not of glommio.\nconst A: &str = \"io_uring\";", ""),
            (
                "src/app/ctx.rs",
                "\nfn f() { glommio::executor() }",
                "src/app/ctx.rs:2: names glommio",
            ),
            ("src/shard/park.rs", "use ::io_uring::types;", "names io_uring"),
            ("benches/peers/src/bin/bare-uring.rs", "use io_uring::IoUring;", ""),
        ],
    );
    holds(owned_crates);
}

#[test]
fn unsafe_lives_in_rooms_and_says_why() {
    let reason = "// SAFETY: it is.\n";
    finds(
        unsafe_rooms,
        &[
            ("src/base/arena.rs", &format!("{reason}unsafe {{ f() }}"), ""),
            ("src/base/arena.rs", &format!("{reason}\n\n\nunsafe {{ f() }}"), ""),
            (
                "src/base/arena.rs",
                &format!("{reason}// and more\n\n\n\n\nunsafe {{}}"),
                "no SAFETY",
            ),
            ("src/base/arena.rs", &format!("{reason}{}unsafe {{}}", "// more\n".repeat(9)), ""),
            ("src/base/arena.rs", "let a = 1;\nunsafe { f() }", "src/base/arena.rs:2: no SAFETY"),
            ("src/base/arena.rs", "unsafe impl Send for A {}", "no SAFETY"),
            ("src/base/arena.rs", "f(unsafe\n{ 1 })", "no SAFETY"),
            ("src/base/arena.rs", "unsafe fn f() {}\ntype F = unsafe fn();", ""),
            ("src/base/arena.rs", "let a = \"// SAFETY: no\";\nunsafe {}", "no SAFETY"),
            ("src/base/wheel.rs", &format!("{reason}unsafe {{}}"), "wheel.rs:2: unsafe outside"),
            ("src/base/wheel.rs", "unsafe fn f() {}", "unsafe outside"),
            ("src/base/wheel.rs", "#![deny(unsafe_code)] // unsafe {}", ""),
            ("tests/alloc.rs", &format!("{reason}unsafe impl A for B {{}}"), ""),
            ("tests/alloc.rs", "unsafe { f() }", "no SAFETY"),
        ],
    );
    holds(unsafe_rooms);
}

#[test]
fn sources_look_alike() {
    let long = format!("//! {}", "x".repeat(97));
    let leftover = format!("//! A\n// {}: later", LEFTOVER_WORDS[0]);
    finds(
        looks,
        &[
            ("src/a.rs", "//! A.\nfn f() {}\n", ""),
            ("src/a.rs", "//! A.\nconst A: &str = \"\u{e9}\";", "src/a.rs:2: not ASCII"),
            ("README.md", "caf\u{e9}", "README.md:1: not ASCII"),
            ("linux-tuning/check", "grep 'a:\t0'", ""),
            ("fuzz/seeds/head/a", "caf\u{e9}\t", ""),
            ("src/a.rs", "//! A.\n\tfn f() {}", "src/a.rs:2: a tab"),
            ("src/a.rs", &long, "src/a.rs:1: 101 columns"),
            ("README.md", &long, ""),
            ("src/a.rs", "fn f() {}", "src/a.rs:1: does not begin with `//!`"),
            ("src/a.rs", "//! A\nfn f() { todo!() }", "src/a.rs:2: a leftover, todo!"),
            ("src/a.rs", "//! A\nfn f() { std::dbg !(1) }", "a leftover, dbg!"),
            ("src/a.rs", "//! A todo! list.\nfn f() { dbg(\"todo!\") }", ""),
            ("src/a.rs", &leftover, "src/a.rs:2: a leftover"),
            (".ci/run", &leftover, ".ci/run:2: a leftover"),
            (".ci/run", &format!("mktemp -t a.{}{}", LEFTOVER_WORDS[1], LEFTOVER_WORDS[1]), ""),
            ("src/a.rs", &"//! A\n".repeat(700), ""),
            ("src/a.rs", &"//! A\n".repeat(701), "src/a.rs:701: more than 700 lines"),
            ("tests/a.rs", &"//! A\n".repeat(701), ""),
            (
                "src/a.rs",
                &format!("{}\n#[cfg(test)]\nmod tests {{\n\n}}", "//! A\n".repeat(699)),
                "",
            ),
            ("src/a.rs", &format!("{}\n#[cfg(test)]\nmod tests;", "//! A\n".repeat(699)), ""),
            (
                "src/a.rs",
                &format!("//! A\n#[cfg(test)]\nuse a;\n{}", "\n".repeat(700)),
                "700 lines",
            ),
            ("src/a.rs", &format!("//! A\nconst A: &str = \"{long}\";"), ""),
        ],
    );
    holds(looks);
}

#[test]
fn examples_say_how_to_run_and_try_them() {
    let head = "//! A.\n//!\n//! Run with: cargo run --example a\n//! Try: curl\n";
    finds(
        examples,
        &[
            ("examples/a.rs", head, ""),
            ("examples/a/main.rs", head, ""),
            ("examples/a.rs", "//! Run with: x", "examples/a.rs:1: does not say \"Try\""),
            ("examples/a/main.rs", "//! Try: x", "does not say \"Run with\""),
            ("examples/a.rs", &head.replace("//!\n", &"//!\n".repeat(10)), "does not say \"Try\""),
            ("examples/common/args.rs", "//! Flags.", ""),
        ],
    );
    holds(examples);
}

#[test]
fn every_source_is_part_of_the_crate() {
    let tree = |files: &[(&str, &str)]| {
        dead_files(&files.iter().map(|(path, text)| File::new(path, text)).collect::<Vec<_>>())
    };
    let lib = ("src/lib.rs", "mod a;\npub(crate) mod b { mod c; }\n// mod d;");
    let all = [lib, ("src/a.rs", "mod e;"), ("src/a/e.rs", ""), ("src/b/c.rs", "")];
    assert_eq!(tree(&all), [""; 0]);
    assert_eq!(tree(&[lib, ("src/a/mod.rs", "mod e;"), ("src/a/e.rs", "")]), [""; 0]);
    assert_eq!(tree(&[lib, ("src/bin/x.rs", "mod y;"), ("src/bin/y.rs", "")]), [""; 0]);
    assert_eq!(tree(&[lib, ("src/d.rs", "")]), ["src/d.rs:1: no `mod` leads here"]);
    assert_eq!(tree(&[lib, ("src/e.rs", "mod e;")]), ["src/e.rs:1: no `mod` leads here"]);
    let elsewhere = ("src/lib.rs", "\n#[path = \"x.rs\"]\nmod a;");
    assert_eq!(tree(&[elsewhere]), ["src/lib.rs:2: a module by #[path]"]);
    holds(dead_files);
}

#[test]
fn no_text_names_a_path_of_one_machine() {
    let (home, root, temporary) = ("/home/ann/", "/root/.cargo", "/tmp/out");
    finds(
        machine_paths,
        &[
            ("README.md", "See [this](src/root/a.rs) and https://example.com/home/x.", ""),
            ("README.md", &format!("\nIn {home}x"), "README.md:2: names a path of one machine, /h"),
            ("README.md", &format!("`{temporary}`"), "names a path of one machine, /tmp/"),
            ("tests/run", &format!("out={temporary}"), ""),
            ("tests/run", &format!("PATH={root}:$PATH"), "names a path of one machine, /root/"),
            ("src/a.rs", &format!("//! In {home}."), "names a path of one machine"),
            ("src/a.rs", &format!("const A: &str = \"{home}\";"), ""),
        ],
    );
    holds(machine_paths);
}

/// Reads a rule's findings in the real tree.
#[track_caller]
fn holds(rule: fn(&[File]) -> Vec<String>) {
    let files = tree();
    assert!(files.iter().filter(|file| file.path.starts_with("src/")).count() > 20);
    let found = rule(&files);
    assert!(found.is_empty(), "{} findings:\n{}\n", found.len(), found.join("\n"));
}

/// Path, text, and part of the only finding; empty where there is none.
#[track_caller]
fn finds(rule: fn(&[File]) -> Vec<String>, cases: &[(&str, &str, &str)]) {
    for (path, text, want) in cases {
        let found = rule(&[File::new(path, text)]);
        let right = match &found[..] {
            [] => want.is_empty(),
            [only] => !want.is_empty() && only.contains(want),
            _ => false,
        };
        assert!(right, "{path}\n{text}\nfound {found:?}\nwant {want:?}");
    }
}

fn floors(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Some(room) = file.room() else { continue };
        let Some(floor) = floor_of(room) else {
            found.push(file.at(1, &format!("{room} is on no floor")));
            continue;
        };
        if floor == FLOORS.len() - 1 {
            continue;
        }
        for (line, name) in file.names_from_the_root() {
            let what = match floor_of(&name) {
                Some(other) if name == room || COMMON.contains(&&*name) || other < floor => {
                    continue;
                }
                Some(_) => name,
                None => format!("lib.rs by `crate::{name}`"),
            };
            found.push(file.at(line, &format!("{room} knows {what}")));
        }
    }
    found
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn owned_crates(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/")) {
        for (line, token) in file.tokens() {
            for (name, owner) in OWNED {
                if token == name && !file.path.starts_with(owner) {
                    found.push(file.at(line, &format!("names {name}, which is {owner}'s")));
                }
            }
        }
    }
    found
}

fn unsafe_rooms(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let is_room = UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room));
        let tokens = file.tokens();
        for (at, &(line, token)) in tokens.iter().enumerate() {
            if token != "unsafe" {
                continue;
            }
            if file.path.starts_with("src/") && !is_room {
                found.push(file.at(line, "unsafe outside the rooms for it"));
            } else if tokens.get(at + 1).is_some_and(|next| matches!(next.1, "{" | "impl"))
                && !file.says_why(line)
            {
                found.push(file.at(line, "no SAFETY line above"));
            }
        }
    }
    found
}

fn looks(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with(DATA)) {
        for (line, text) in (1..).zip(file.text.lines()) {
            let mut find = |what: &str| found.push(file.at(line, what));
            if !text.is_ascii() {
                find("not ASCII");
            }
            if file.is_rust() && text.contains('\t') {
                find("a tab");
            }
            for word in LEFTOVER_WORDS {
                if text.split(|c: char| !c.is_alphanumeric()).any(|it| it == word) {
                    find(&format!("a leftover, {word}"));
                }
            }
            let columns = text.chars().count();
            if file.is_rust() && columns > COLUMNS_MAX && !text.contains('"') {
                find(&format!("{columns} columns"));
            }
            if file.path.starts_with("src/") && file.is_rust() && line == LINES_MAX + 1 {
                let code = file.text.split("\n#[cfg(test)]\nmod tests").next();
                if code.is_some_and(|code| code.lines().count() > LINES_MAX) {
                    find(&format!("more than {LINES_MAX} lines"));
                }
            }
        }
        if !file.is_rust() {
            continue;
        }
        if !file.text.starts_with("//!") {
            found.push(file.at(1, "does not begin with `//!`"));
        }
        for pair in file.tokens().windows(2) {
            let (line, name) = pair[0];
            if LEFTOVER_MACROS.contains(&name) && pair[1].1 == "!" {
                found.push(file.at(line, &format!("a leftover, {name}!")));
            }
        }
    }
    found
}

fn examples(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Some(name) = file.path.strip_prefix("examples/") else { continue };
        if !file.is_rust() || (name.contains('/') && !name.ends_with("/main.rs")) {
            continue;
        }
        let head: Vec<&str> = file.text.lines().take(EXAMPLE_HEAD_LINES).collect();
        for words in ["Run with", "Try"] {
            if !head.iter().any(|line| line.starts_with("//!") && line.contains(words)) {
                found.push(file.at(1, &format!("does not say {words:?}")));
            }
        }
    }
    found
}

fn dead_files(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let sources: Vec<&File> =
        files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/")).collect();
    let mut live: BTreeSet<String> = BTreeSet::new();
    let mut next: Vec<String> = Vec::new();
    for file in &sources {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or_default();
        let main = folder.starts_with("src/bin/") && name == "main.rs";
        if main || folder == "src/bin" || ["src/lib.rs", "src/main.rs"].contains(&&*file.path) {
            next.push(file.path.clone());
        }
    }
    let roots = next.clone();
    while let Some(path) = next.pop() {
        let Some(file) = sources.iter().find(|file| file.path == path) else { continue };
        if !live.insert(path.clone()) {
            continue;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        let is_root = name == "mod.rs" || roots.contains(&path);
        let home = if is_root { folder } else { path.trim_end_matches(".rs") };
        for (line, declared) in file.declared_modules() {
            match declared {
                Some(module) => {
                    next.push(format!("{home}/{module}.rs"));
                    next.push(format!("{home}/{module}/mod.rs"));
                }
                None => found.push(file.at(line, "a module by #[path]")),
            }
        }
    }
    let dead = sources.iter().filter(|file| !live.contains(&file.path));
    found.extend(dead.map(|file| file.at(1, "no `mod` leads here")));
    found
}

fn machine_paths(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with(DATA)) {
        let text = if file.is_rust() { &file.comments } else { &file.text };
        let of_docs: &[&str] =
            if file.path.ends_with(".md") { &MACHINE_PATHS_OF_DOCS } else { &[] };
        for (line, text) in (1..).zip(text.lines()) {
            for path in MACHINE_PATHS.iter().chain(of_docs) {
                let begins = |(at, _): (usize, _)| {
                    !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-)".contains(c))
                };
                if text.match_indices(path).any(begins) {
                    found.push(file.at(line, &format!("names a path of one machine, {path}")));
                }
            }
        }
    }
    found
}

/// A text file of the tree.
struct File {
    /// From the top of the tree, with slashes.
    path: String,
    text: String,
    /// The text of a Rust file without comments and without what strings hold, line by line.
    code: String,
    /// Its comments alone, line by line.
    comments: String,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        let (code, comments) =
            if path.ends_with(".rs") { split(text) } else { (String::new(), String::new()) };
        File { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The folder of `src/` that a source lies in, or its own name.
    fn room(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/").filter(|_| self.is_rust())?;
        path.split('/').next().map(|room| room.trim_end_matches(".rs"))
    }

    /// Words and single marks, each with its line.
    fn tokens(&self) -> Vec<(usize, &str)> {
        let mut tokens = Vec::new();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        for (line, text) in (1..).zip(self.code.lines()) {
            let mut rest = text.trim_start();
            while let Some(first) = rest.chars().next() {
                let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let len = if word == 0 { first.len_utf8() } else { word };
                tokens.push((line, &rest[..len]));
                rest = rest[len..].trim_start();
            }
        }
        tokens
    }

    /// A SAFETY comment on this line or above it, with few lines between that are no comment.
    fn says_why(&self, line: usize) -> bool {
        let comments: Vec<&str> = self.comments.lines().collect();
        let mut others = 0;
        for comment in comments[..line].iter().rev() {
            if comment.trim_start().starts_with("// SAFETY:") {
                return true;
            }
            others += usize::from(comment.trim().is_empty());
            if others > SAFETY_LINES {
                return false;
            }
        }
        false
    }

    /// Each token with the inline modules that it lies in.
    fn tokens_in_modules(&self) -> Vec<(usize, &str, Vec<&str>)> {
        let tokens = self.tokens();
        let mut open: Vec<Option<&str>> = Vec::new();
        let mut all = Vec::new();
        for (at, &(line, token)) in tokens.iter().enumerate() {
            let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].1);
            match token {
                "{" if before(2) == "mod" => open.push(Some(before(1))),
                "{" => open.push(None),
                "}" => drop(open.pop()),
                _ => {}
            }
            all.push((line, token, open.iter().flatten().copied().collect()));
        }
        all
    }

    /// What follows the root of the crate in a path: after `crate`, or after enough of `super`.
    fn names_from_the_root(&self) -> Vec<(usize, String)> {
        let tokens = self.tokens_in_modules();
        let token = |at: usize| tokens.get(at).map_or("", |(_, token, _)| *token);
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let own_depth = path.split('/').filter(|part| !["mod", "lib"].contains(part)).count();
        let mut names = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let (line, first, modules) = &tokens[at];
            at += 1;
            let mut up = 0;
            if *first == "super" {
                up = 1;
                while token(at) == ":" && token(at + 2) == "super" {
                    at += 3;
                    up += 1;
                }
            }
            let at_root = *first == "crate" || (up > 0 && up >= own_depth + modules.len());
            if !at_root || token(at) != ":" || token(at + 1) != ":" {
                continue;
            }
            at += 2;
            if token(at) != "{" {
                names.push((*line, token(at).to_owned()));
                continue;
            }
            // The first name of each branch of a group.
            let mut depth = 0;
            loop {
                match token(at) {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                let begins = matches!(token(at), "{" | ",") && depth == 1;
                if begins && !matches!(token(at + 1), "}" | "") {
                    names.push((tokens[at + 1].0, token(at + 1).to_owned()));
                }
                at += 1;
                if depth == 0 || at >= tokens.len() {
                    break;
                }
            }
        }
        names
    }

    /// Modules that lie in files of their own; none for one whose file is named by an attribute.
    fn declared_modules(&self) -> Vec<(usize, Option<String>)> {
        let tokens = self.tokens_in_modules();
        let mut declared = Vec::new();
        for (at, (line, token, modules)) in tokens.iter().enumerate() {
            let after = |more: usize| tokens.get(at + more).map_or("", |(_, token, _)| *token);
            if *token == "mod" && after(2) == ";" {
                declared.push((*line, Some([&modules[..], &[after(1)]].concat().join("/"))));
            }
            if *token == "#" && after(1) == "[" && after(2) == "path" && after(3) == "=" {
                declared.push((*line, None));
            }
        }
        declared
    }
}

/// Every text file that git would keep.
fn tree() -> Vec<File> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = fs::read_to_string(top.join(".gitignore")).expect(".gitignore");
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type().expect("a kind of file");
            if [".git", "target"].contains(&&*name) || ignored.contains(&&*path) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                // One that is gone by now, or holds no text, is none of ours.
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    files.push(File::new(&path, &text));
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Code and comments of a Rust source, apart; each as blanks where the other is, and where a
/// string or a character is.
fn split(text: &str) -> (String, String) {
    let text: Vec<char> = text.chars().collect();
    let mut code: Vec<char> = text.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }).collect();
    let mut comments = code.clone();
    let get = |at: usize| text.get(at).copied().unwrap_or('\0');
    let find = |from: usize, c: char| (from..text.len()).find(|at| text[*at] == c);
    let mut at = 0;
    while at < text.len() {
        let in_word = at > 0 && (get(at - 1).is_alphanumeric() || get(at - 1) == '_');
        let hashes = (at + 1..).take_while(|at| get(*at) == '#').count();
        let end = match (get(at), get(at + 1)) {
            ('/', '/') => find(at, '\n').unwrap_or(text.len()),
            ('/', '*') => end_of_comment(&text, at),
            ('"', _) => end_of_string(&text, at),
            ('r', _) if get(at + 1 + hashes) == '"' && (!in_word || is_prefix(&text, at)) => {
                end_of_raw_string(&text, at + 1 + hashes, hashes)
            }
            ('\'', '\\') => find(at + 3, '\'').map_or(text.len(), |end| end + 1),
            ('\'', _) if get(at + 2) == '\'' => at + 3,
            _ => at,
        };
        if end == at {
            code[at] = text[at];
            at += 1;
            continue;
        }
        if get(at) == '/' {
            comments[at..end].copy_from_slice(&text[at..end]);
        }
        at = end;
    }
    (code.into_iter().collect(), comments.into_iter().collect())
}

/// Whether the `r` at `at` follows the `b` or `c` of a raw string.
fn is_prefix(text: &[char], at: usize) -> bool {
    let starts = at < 2 || !(text[at - 2].is_alphanumeric() || text[at - 2] == '_');
    starts && matches!(text[at - 1], 'b' | 'c')
}

/// Comments nest.
fn end_of_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    text.len()
}

fn end_of_string(text: &[char], mut at: usize) -> usize {
    at += 1;
    while at < text.len() {
        match text[at] {
            '"' => return at + 1,
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn end_of_raw_string(text: &[char], quote: usize, hashes: usize) -> usize {
    let closes = |at: &usize| {
        text[*at] == '"' && text[*at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    (quote + 1..text.len()).find(closes).map_or(text.len(), |at| at + 1 + hashes)
}

#[test]
fn code_is_told_from_comments_and_strings() {
    // Blanks are told once, and at no end.
    let cases = [
        ("a // b\nc", "a c", "// b"),
        ("a /* b /* c */ d */ e", "a e", "/* b /* c */ d */"),
        ("f(\"a\\\"// b\", c)", "f( , c)", ""),
        ("f(r#\"a\"//\"#, b)", "f( , b)", ""),
        ("f(br\"\\\", b)", "f(b , b)", ""),
        ("var\"a\" b", "var b", ""),
        ("f('\"', '\\'', '\\\\', b'/', '\\n')", "f( , , , b , )", ""),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)", ""),
        ("\"a\nb\" c", "c", ""),
        ("a \"\\", "a", ""),
        ("a /*/", "a", "/*/"),
    ];
    for (text, want_code, want_comments) in cases {
        let (code, comments) = split(text);
        let one_blank = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!((&*one_blank(&code), &*one_blank(&comments)), (want_code, want_comments));
        for part in [code, comments] {
            assert_eq!(part.chars().count(), text.chars().count());
            assert_eq!(part.lines().count(), text.lines().count());
        }
    }
}
