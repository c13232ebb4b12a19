//! Fields of a request and of an answer as middleware sees them: nothing here takes from the heap.

use super::core::{Core, is_named, lines, remove_field};

impl Core {
    /// Every value of a request's field, in order.
    pub(crate) fn request_fields(&self, name: &str) -> impl Iterator<Item = &str> {
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
        self.with_fields(|fields| {
            let line = lines(fields).find(|line| is_named(line, name))?;
            let value = str::from_utf8(line[name.len() + 1..].trim_ascii()).ok()?;
            Some(self.arena.copy(value))
        })
    }

    /// Whether an element of a list is there, in any line of that name and in any case.
    pub(crate) fn field_has(&self, name: &str, element: &str) -> bool {
        let same = |it: &[u8]| it.trim_ascii().eq_ignore_ascii_case(element.as_bytes());
        self.with_fields(|fields| {
            let mut named = lines(fields).filter(|line| is_named(line, name));
            named.any(|line| line[name.len() + 1..].split(|byte| *byte == b',').any(same))
        })
    }

    /// Says that the answer depends on a field of the request (RFC 9110 section 12.5.5).
    pub(crate) fn add_vary(&self, name: &str) {
        if !self.field_has("vary", name) && !self.field_has("vary", "*") {
            self.set_field("vary", name, true);
        }
    }

    pub(crate) fn remove_field(&self, name: &str) {
        if name.eq_ignore_ascii_case("content-type") {
            self.mime.set("");
        }
        self.with_fields(|fields| remove_field(fields, name));
    }
}
