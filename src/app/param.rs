//! What a path parameter can be read as.

use crate::error::Result;

/// A type that a path parameter can be read as.
///
/// ```
/// # use soloist::{prelude::*, testing::TestClient};
/// # use soloist::FromParam;
/// struct Color(u32);
///
/// impl FromParam<'_> for Color {
///     fn from_param(text: &str) -> Result<Color, &'static str> {
///         u32::from_str_radix(text, 16).map(Color).map_err(|_| "a hexadecimal number")
///     }
/// }
/// async fn show(cx: &Ctx<()>) -> Result<Reply> {
///     let Color(rgb) = cx.param("color")?;
///     cx.json(&rgb)
/// }
/// # let app = App::new(()).get("/:color", show);
/// # TestClient::run(async move |_| Ok(app), async |client| {
/// client.get("/ff").await.text("255");
/// client.get("/red").await.expect(400).text("color: not a hexadecimal number");
/// # });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a path parameter",
    note = "`param` reads &str, String, numbers and bool; for a type with `FromStr` use `cx.parse(name)?`"
)]
pub trait FromParam<'a>: Sized {
    /// Reads it, or says what it is not (`a number`).
    fn from_param(text: &'a str) -> Result<Self, &'static str>;
}

impl<'a> FromParam<'a> for &'a str {
    fn from_param(text: &'a str) -> Result<Self, &'static str> {
        Ok(text)
    }
}

impl FromParam<'_> for String {
    fn from_param(text: &str) -> Result<Self, &'static str> {
        Ok(text.to_owned())
    }
}

macro_rules! params {
    ($kind:literal: $($type:ty)*) => {$(
        impl FromParam<'_> for $type {
            fn from_param(text: &str) -> Result<Self, &'static str> {
                text.parse().map_err(|_| $kind)
            }
        }
    )*};
}
params!("a number": u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);
params!("true or false": bool);
