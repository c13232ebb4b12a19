//! A cell that is borrowed in a closure, and therefore never over an await.

use std::any::type_name;
use std::cell::{RefCell, RefMut};
use std::fmt;

/// A value that one shard owns and changes in place, borrowed only while a closure runs.
///
/// Take it where the state of an application has something to change that is not `Copy`, and
/// `RefCell` would do but for its trap: a `borrow_mut` that lives over an `.await` compiles, and
/// then panics in *another* request. The closure of [`with`](Own::with) is not async, so that
/// mistake cannot be written. For numbers and flags `Cell` is enough.
///
/// ```
/// use std::collections::BTreeMap;
/// use soloist::prelude::*;
///
/// #[derive(Default)]
/// struct State {
///     names: Own<BTreeMap<i64, String>>,
/// }
///
/// async fn rename(cx: &Ctx<State>) -> Result<Reply> {
///     let id: i64 = cx.param("id")?;
///     let name = cx.body_json().await?;
///     let old = cx.state().names.with(|names| names.insert(id, name));
///     cx.json(&old)
/// }
/// ```
pub struct Own<T>(RefCell<T>);

impl<T> Own<T> {
    /// A cell with that value.
    pub const fn new(value: T) -> Own<T> {
        Own(RefCell::new(value))
    }

    /// Lends the value to `f`, to read and to change. What `f` returns cannot borrow from it.
    ///
    /// # Panics
    /// When it is called inside `f`, on the same cell: the message names the line. If `f` itself
    /// panics, the value stays as `f` left it.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.borrow())
    }

    /// Takes the value and leaves the default one.
    ///
    /// # Panics
    /// Inside [`with`](Own::with) on the same cell.
    #[track_caller]
    pub fn take(&self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }

    /// Puts another value in its place and returns the old one.
    ///
    /// # Panics
    /// Inside [`with`](Own::with) on the same cell.
    #[track_caller]
    pub fn replace(&self, value: T) -> T {
        std::mem::replace(&mut *self.borrow(), value)
    }

    /// The value, when nobody shares the cell any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }

    #[track_caller]
    fn borrow(&self) -> RefMut<'_, T> {
        match self.0.try_borrow_mut() {
            Ok(value) => value,
            Err(_) => panic!(
                "Own<{}> is used inside its own `with`: let the outer closure return what it \
                 found, then go on outside of it",
                type_name::<T>()
            ),
        }
    }
}

impl<T: Default> Default for Own<T> {
    fn default() -> Own<T> {
        Own::new(T::default())
    }
}

impl<T> From<T> for Own<T> {
    fn from(value: T) -> Own<T> {
        Own::new(value)
    }
}

/// Says that it is borrowed where it is.
impl<T: fmt::Debug> fmt::Debug for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.try_borrow() {
            Ok(value) => f.debug_tuple("Own").field(&*value).finish(),
            Err(_) => f.write_str("Own(<borrowed>)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn it_lends_takes_and_replaces() {
        let own = Own::new(vec![1]);
        assert_eq!(own.with(|it| std::mem::replace(&mut it[0], 2)), 1);
        assert_eq!(own.replace(vec![3]), [2]);
        assert_eq!(own.take(), [3]);
        assert!(own.into_inner().is_empty());
        assert_eq!(Own::<u8>::default().with(|it| *it), 0);
    }

    #[test]
    fn a_closure_inside_a_closure_panics_and_says_what_to_do() {
        let own = Own::new(7);
        let inside: [(&str, &dyn Fn() -> i32); 3] = [
            ("with", &|| own.with(|_| own.with(|it| *it))),
            ("take", &|| own.with(|_| own.replace(own.take()))),
            ("replace", &|| own.with(|_| own.replace(8))),
        ];
        for (name, f) in inside {
            let panic = catch_unwind(AssertUnwindSafe(f)).expect_err(name);
            let text = panic.downcast::<String>().expect("a text");
            assert!(text.contains("Own<i32>") && text.contains("outer closure"), "{text}");
            assert_eq!(own.with(|it| *it), 7, "{name}: not left borrowed");
        }
        assert_eq!(own.with(|_| format!("{own:?}")), "Own(<borrowed>)");
    }
}
