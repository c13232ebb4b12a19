//! Fields of a request and of an answer as middleware sees them: nothing here takes from the heap.

use super::core::{Core, is_named, lines, name_bit, remove_field};
use crate::error::{Error, Result};
use crate::http::encode::field_is_clean;

/// Field lines of different names, made once and known to be clean.
pub(crate) struct Lines {
    all: Vec<u8>,
    each: Vec<Line>,
    /// What else the answer depends on: this line goes first, and stands beside others.
    vary: Option<&'static str>,
    /// The bits of all names.
    bits: u64,
}

struct Line {
    name: &'static str,
    /// Where it lies in `all`.
    start: usize,
    end: usize,
}

impl Lines {
    /// Those whose values are not empty; an error says which cannot be sent.
    pub(crate) fn new(fields: &[(&'static str, &str)]) -> Result<Lines> {
        Lines::with_vary(None, fields)
    }

    /// The same with a Vary.
    pub(crate) fn with_vary(
        vary: Option<&'static str>,
        fields: &[(&'static str, &str)],
    ) -> Result<Lines> {
        let mut lines = Lines { all: Vec::new(), each: Vec::new(), vary, bits: 0 };
        if let Some(name) = vary {
            lines.bits |= name_bit("vary");
            push_line(&mut lines.all, "vary", name.as_bytes());
        }
        for &(name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            if !field_is_clean(name, value) {
                return Err(Error::new(500, format!("{name}: {value:?} cannot be sent")));
            }
            lines.bits |= name_bit(name);
            let start = lines.all.len();
            push_line(&mut lines.all, name, value.as_bytes());
            lines.each.push(Line { name, start, end: lines.all.len() });
        }
        Ok(lines)
    }

    /// Whether one of these fields is set already.
    fn meets(&self, fields: &[u8]) -> bool {
        let is_ours = |line: &[u8]| {
            self.each.iter().any(|it| is_named(line, it.name))
                || (self.vary.is_some() && is_named(line, "vary"))
        };
        lines(fields).any(is_ours)
    }
}

fn push_line(fields: &mut Vec<u8>, name: &str, value: &[u8]) {
    fields.reserve(name.len() + value.len() + 4);
    fields.extend_from_slice(name.as_bytes());
    fields.extend_from_slice(b": ");
    fields.extend_from_slice(value);
    fields.extend_from_slice(b"\r\n");
}

impl Core {
    /// Every value of a request's field, in order.
    pub(crate) fn request_fields(
        &self,
        name: &str,
    ) -> impl DoubleEndedIterator<Item = &str> + Clone {
        let bytes = self.bytes();
        let fields = self.head.fields.iter();
        let same = move |of: &[u8]| of.eq_ignore_ascii_case(name.as_bytes());
        fields.filter(move |it| same(it.name.of(bytes))).map(move |it| it.value.text(bytes))
    }

    /// The value of a request's field that is there once: who sends two of them means neither.
    pub(crate) fn only_request_field(&self, name: &str) -> Option<&str> {
        let mut values = self.request_fields(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The value of the first field of that name in the answer, copied to the arena.
    pub(crate) fn field_copy(&self, name: &str) -> Option<&str> {
        if name.eq_ignore_ascii_case("content-type") && !self.mime.get().is_empty() {
            return Some(self.mime.get());
        }
        self.look_for(name, |fields| {
            let line = lines(fields).find(|line| is_named(line, name))?;
            let value = str::from_utf8(line[name.len() + 1..].trim_ascii()).ok()?;
            Some(self.arena.copy(value))
        })
    }

    /// Whether an element of a list is there, in any line of that name and in any case.
    #[cfg(feature = "compress")]
    pub(crate) fn field_has(&self, name: &str, element: &str) -> bool {
        let same = |it: &[u8]| it.trim_ascii().eq_ignore_ascii_case(element.as_bytes());
        self.look_for(name, |fields| {
            let mut named = lines(fields).filter(|line| is_named(line, name));
            named.any(|line| line[name.len() + 1..].split(|byte| *byte == b',').any(same))
        })
    }

    /// Says that the answer depends on a field of the request (RFC 9110 section 12.5.5).
    pub(crate) fn add_vary(&self, name: &'static str) {
        let covers = |it: &[u8]| it == b"*" || it.eq_ignore_ascii_case(name.as_bytes());
        let known = self.note(name_bit("vary"));
        self.with_fields(|fields| {
            if !known {
                return push_line(fields, "vary", name.as_bytes());
            }
            let lists = lines(fields).filter(|line| is_named(line, "vary"));
            let mut listed = lists.flat_map(|line| line[5..].split(|byte| *byte == b','));
            let told = listed.any(|it| covers(it.trim_ascii()));
            drop(listed);
            if !told {
                push_line(fields, "vary", name.as_bytes());
            }
        });
    }

    /// Sets a field that is known to be clean.
    pub(crate) fn set_clean_field(&self, name: &'static str, value: &[u8]) {
        let known = self.note(name_bit(name));
        self.with_fields(|fields| {
            if known {
                remove_field(fields, name);
            }
            push_line(fields, name, value);
        });
    }

    /// Sets these fields, in place of earlier ones.
    pub(crate) fn set_lines(&self, set: &Lines) {
        let known = self.note(set.bits);
        let met = self.with_fields(|fields| {
            let met = known && set.meets(fields);
            if !met {
                fields.extend_from_slice(&set.all);
            }
            met
        });
        if met {
            self.remove_lines(set);
            self.add_missing_lines(set);
        }
    }

    #[cold]
    fn remove_lines(&self, set: &Lines) {
        set.each.iter().for_each(|line| self.remove_field(line.name));
    }

    /// Sets those of these fields that are not there.
    pub(crate) fn add_missing_lines(&self, set: &Lines) {
        let known = self.note(set.bits);
        let met = self.with_fields(|fields| {
            if !known || !set.meets(fields) {
                fields.extend_from_slice(&set.all);
                return false;
            }
            for line in &set.each {
                if !lines(fields).any(|it| is_named(it, line.name)) {
                    fields.extend_from_slice(&set.all[line.start..line.end]);
                }
            }
            true
        });
        if let Some(name) = set.vary.filter(|_| met) {
            self.add_vary(name);
        }
    }

    pub(crate) fn remove_field(&self, name: &str) {
        if name.eq_ignore_ascii_case("content-type") {
            self.mime.set("");
        }
        self.with_fields(|fields| remove_field(fields, name));
    }
}
