//! Content-Disposition of a download (RFC 6266, names as in RFC 8187).

use std::fmt::{self, Write};

use super::location::escape;

/// `attachment` with a file name: path separators and control characters become `_`.
pub(crate) struct Attachment<'a>(pub(crate) &'a str);

impl fmt::Display for Attachment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            // Names of folders, or of nothing.
            "" | "." | ".." => "download",
            name => name,
        };
        f.write_str("attachment; filename=\"")?;
        for c in name.chars().map(safe) {
            match c {
                '"' => f.write_str("\\\"")?,
                // Clients disagree on `%` here (RFC 6266 appendix D): only the other name has it.
                '%' => f.write_char('_')?,
                c if c.is_ascii() => f.write_char(c)?,
                _ => f.write_char('_')?,
            }
        }
        f.write_char('"')?;
        if name.chars().any(|c| !c.is_ascii() || c == '%') {
            f.write_str("; filename*=UTF-8''")?;
            let mut bytes = [0; 4];
            for c in name.chars().map(safe) {
                escape(f, c.encode_utf8(&mut bytes), is_attr_byte)?;
            }
        }
        Ok(())
    }
}

fn safe(c: char) -> char {
    if c.is_control() || matches!(c, '/' | '\\') { '_' } else { c }
}

/// RFC 8187 section 3.2.1.
fn is_attr_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, want) in [
            ("a.txt", r#"filename="a.txt""#),
            ("my file; v=2.txt", r#"filename="my file; v=2.txt""#),
            (r#"a"b.txt"#, r#"filename="a\"b.txt""#),
            ("caf\u{e9} 1.txt", r#"filename="caf_ 1.txt"; filename*=UTF-8''caf%C3%A9%201.txt"#),
            ("50%41.txt", r#"filename="50_41.txt"; filename*=UTF-8''50%2541.txt"#),
            ("../../etc/passwd", r#"filename=".._.._etc_passwd""#),
            (r"C:\a\b", r#"filename="C:_a_b""#),
            ("a\r\nb: c\0\u{85}", "filename=\"a__b: c__\"; filename*=UTF-8''a__b%3A%20c__"),
            ("", r#"filename="download""#),
            ("..", r#"filename="download""#),
        ] {
            assert_eq!(Attachment(name).to_string(), format!("attachment; {want}"), "{name:?}");
        }
    }
}
