//! The head of an answer, on its way out, and what waits for it: a closure of one request, or one
//! that a middleware keeps.

use std::rc::Rc;

use super::core::{Core, Phase};
use super::ctx::Ctx;
use super::reply::BodyFilter;

/// Runs just before the head leaves.
pub(crate) enum OnHead {
    Once(Box<dyn FnOnce(&ReplyHead<'_>)>),
    Kept(KeptOnHead),
}

/// Made once, used for every request: costs no heap.
pub(crate) type KeptOnHead = Rc<dyn Fn(&ReplyHead<'_>)>;

impl OnHead {
    #[inline]
    pub(crate) fn run(self, head: &ReplyHead<'_>) {
        match self {
            OnHead::Once(f) => f(head),
            OnHead::Kept(f) => f(head),
        }
    }
}

impl<S> Ctx<S> {
    /// Runs `f` once, just before the head of the answer leaves, streamed or not.
    ///
    /// ```
    /// # use soloist::prelude::*;
    /// # async fn handler(cx: &Ctx<()>) -> Result<Reply> {
    /// cx.on_head(|head| {
    ///     head.set_header("server-timing", "db;dur=3"); // on errors and streams too
    /// });
    /// cx.text("hello")
    /// # }
    /// ```
    pub fn on_head(&self, f: impl FnOnce(&ReplyHead<'_>) + 'static) {
        self.core.on_head.borrow_mut().push(OnHead::Once(Box::new(f)));
    }

    /// As [`on_head`](Ctx::on_head), with a closure that a middleware keeps: a warm request takes
    /// nothing from the heap for it. What differs from request to request it finds by
    /// [`ReplyHead::got`] and [`ReplyHead::request_header`].
    ///
    /// ```
    /// use std::rc::Rc;
    /// use soloist::prelude::*;
    /// use soloist::{Middleware, ReplyHead};
    ///
    /// fn server_name<S: 'static>(name: &'static str) -> impl Middleware<S> {
    ///     let kept: Rc<dyn Fn(&ReplyHead<'_>)> = Rc::new(move |head: &ReplyHead<'_>| {
    ///         head.set_header("server", name);
    ///     });
    ///     async move |cx: &Ctx<S>, next: Next<'_>| {
    ///         cx.on_head_kept(&kept);
    ///         next.run().await
    ///     }
    /// }
    /// # let app = App::new(()).wrap(server_name("a"));
    /// ```
    #[inline]
    pub fn on_head_kept(&self, f: &Rc<dyn Fn(&ReplyHead<'_>)>) {
        self.core.on_head.borrow_mut().push(OnHead::Kept(f.clone()));
    }
}

/// The head of an answer, on its way out: see [`Ctx::on_head`].
pub struct ReplyHead<'a>(pub(crate) &'a Core);

impl ReplyHead<'_> {
    /// The final status.
    pub fn status(&self) -> u16 {
        self.0.status.get()
    }

    /// The value of a header field of the answer.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.field(name)
    }

    /// Whether the body follows in pieces; if not, it is whole already.
    pub fn is_streamed(&self) -> bool {
        self.0.phase.get() == Phase::Open
    }

    /// Puts a filter between a streamed body and the client; it does nothing for a whole one.
    pub fn filter_body(&self, filter: impl BodyFilter + 'static) {
        self.0.filter.replace(Some(Box::new(filter)));
    }

    /// As [`Ctx::set_header`].
    pub fn set_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.0.set_field(name, value.as_ref(), false);
        self
    }

    /// As [`Ctx::add_header`].
    pub fn add_header(&self, name: &str, value: impl AsRef<str>) -> &Self {
        self.0.set_field(name, value.as_ref(), true);
        self
    }

    /// The newest value of that type which the request keeps: see [`Ctx::put`].
    pub fn got<T: 'static>(&self) -> Option<&T> {
        self.0.arena.got()
    }

    /// The value of the request's first header field of that name, in any case.
    pub fn request_header(&self, name: &str) -> Option<&str> {
        self.0.head.field(self.0.bytes(), name)
    }
}
