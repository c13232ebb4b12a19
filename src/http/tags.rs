//! Entity tags in lists (RFC 9110 section 8.8.3).

/// How two tags are compared (section 8.8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The same bytes: neither is weak.
    #[cfg(feature = "files")]
    Strong,
    /// The same meaning.
    Weak,
}

/// Whether a list of tags, or `*`, covers one. What follows a mistake in the list is not read.
pub(crate) fn has_tag(list: &str, tag: &str, how: Compare) -> bool {
    if list.trim() == "*" {
        return true;
    }
    let wanted = tag.strip_prefix("W/").unwrap_or(tag);
    if how != Compare::Weak && wanted.len() < tag.len() {
        return false;
    }
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let quoted = rest.strip_prefix("W/").unwrap_or(rest);
        let strong = quoted.len() == rest.len();
        let Some(end) = quoted.strip_prefix('"').and_then(|it| it.find('"')) else { return false };
        let (this, after) = quoted.split_at(end + 2);
        if this == wanted && (strong || how == Compare::Weak) {
            return true;
        }
        let next = after.trim_start_matches([' ', '\t']);
        if !next.is_empty() && !next.starts_with(',') {
            return false;
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags() {
        // (list, tag, weakly, strongly)
        for (list, tag, weak, _strong) in [
            ("\"a\"", "\"a\"", true, true),
            ("W/\"a\"", "\"a\"", true, false),
            ("\"a\"", "W/\"a\"", true, false),
            ("W/\"a\"", "W/\"a\"", true, false),
            ("\"b\", \"a\"", "\"a\"", true, true),
            (" , W/\"b,\" ,\t\"a\" ", "\"a\"", true, true),
            ("\"b,a\"", "\"a\"", false, false),
            ("*", "\"a\"", true, true),
            (" * ", "\"a\"", true, true),
            ("\"b\", *", "\"a\"", false, false),
            ("\"A\"", "\"a\"", false, false),
            ("w/\"a\"", "\"a\"", false, false),
            ("a", "\"a\"", false, false),
            ("\"a", "\"a\"", false, false),
            ("", "\"a\"", false, false),
            ("\"b\" \"a\"", "\"a\"", false, false),
            ("\"b\"\"a\"", "\"a\"", false, false),
            ("\"a\" x", "\"a\"", true, true),
            ("x, \"a\"", "\"a\"", false, false),
        ] {
            assert_eq!(has_tag(list, tag, Compare::Weak), weak, "{list} {tag}");
            #[cfg(feature = "files")]
            assert_eq!(has_tag(list, tag, Compare::Strong), _strong, "{list} {tag}");
        }
    }
}
