//! Path parameters, one at a time.

use std::borrow::Cow;
use std::str::FromStr;

use super::ctx::Ctx;
use crate::error::{Error, Result};
use crate::http::percent;

/// Reading the path.
impl<S> Ctx<S> {
    /// A path parameter as text, number or bool. 400 if it is not one.
    ///
    /// For a foreign type with `FromStr` use [`parse`](Ctx::parse).
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let id: u64 = cx.param("id")?; // not a number: 400
    /// let name: &str = cx.param("name")?; // borrowed from the request
    /// cx.text(format!("{id} {name}"))
    /// # }
    /// ```
    pub fn param<'a, T: FromParam<'a>>(&'a self, name: &str) -> Result<T> {
        let text = self.param_text(name)?;
        T::from_param(text).map_err(|kind| Error::bad_request(format!("{name}: not {kind}")))
    }

    /// A path parameter of any type with `FromStr`. 400 if it is not one.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// let address: std::net::IpAddr = cx.parse("address")?;
    /// cx.text(address.to_string())
    /// # }
    /// ```
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<T> {
        let text = self.param_text(name)?;
        text.parse().map_err(|_| Error::bad_request(format!("{name}: not valid")))
    }

    fn param_text(&self, name: &str) -> Result<&str> {
        let route = self.core.route.as_ref();
        let at = route.and_then(|it| it.names.iter().position(|known| **known == *name));
        let Some(text) = at.and_then(|at| self.core.params.of(self.path(), at)) else {
            let path = self.route().unwrap_or("this route").to_owned();
            return Err(Error::new(500, "internal error")
                .because(format!("{path} has no parameter named {name}")));
        };
        match percent::decode(text) {
            Ok(Cow::Borrowed(text)) => Ok(text),
            Ok(Cow::Owned(text)) => Ok(self.core.arena.copy(&text)),
            Err(_) => Err(Error::bad_request(format!("{name}: bad percent-encoding"))),
        }
    }
}

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
