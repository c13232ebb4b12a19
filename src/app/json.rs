//! JSON bodies, and where in them a mistake is.

use serde::de::Deserialize;
use serde_json::error::Category;

use crate::error::{Error, Result};
use crate::http::form::shown;

/// Reads it; 400 with the path of the field that does not suit.
#[inline]
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| mistake::<T>(body, &error))
}

/// Keeping track of the path takes memory for every field, so it is found in a second reading.
#[cold]
fn mistake<'a, T: Deserialize<'a>>(body: &'a [u8], error: &serde_json::Error) -> Error {
    let mut path = String::new();
    if error.classify() == Category::Data {
        let json = &mut serde_json::Deserializer::from_slice(body);
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(json) {
            path = error.path().to_string();
        }
    }
    let field = if path.is_empty() || path == "." { "body" } else { &path };
    Error::bad_request(format!("{}: {}", shown(field), shown(&error.to_string())))
}
