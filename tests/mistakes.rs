//! The commonest mistakes, and what the compiler says to them.
//!
//! The texts are those of one compiler: another one words its own part differently, so there only
//! the refusal is checked. They are written anew by
//! `TRYBUILD=overwrite cargo test --features ws --test mistakes`.

use std::process::Command;

/// The compiler that the texts are of.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler");
    if !String::from_utf8_lossy(&version.stdout).starts_with(COMPILER) {
        println!("another compiler than {COMPILER}: its words are not compared");
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/mistakes/*.rs");
    cases.compile_fail("tests/mistakes/ws/*.rs");
}
