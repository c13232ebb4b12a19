//! What waits for the head of an answer: a closure of one request, or one that a middleware keeps.

use std::rc::Rc;

use super::ctx::{Ctx, ReplyHead};

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

impl ReplyHead<'_> {
    /// The newest value of that type which the request keeps: see [`Ctx::put`].
    pub fn got<T: 'static>(&self) -> Option<&T> {
        self.0.arena.got()
    }

    /// The value of the request's first header field of that name, in any case.
    pub fn request_header(&self, name: &str) -> Option<&str> {
        self.0.head.field(self.0.bytes(), name)
    }
}
