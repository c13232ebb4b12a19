//! An endpoint of an application with a state of its own, inside another one.

use std::rc::Rc;

use super::ctx::Ctx;
use super::handler::Endpoint;
use super::next::run_chain;
use super::reply::Reply;
use super::routes::Chain;
use super::site::{Missing, Shared};
use crate::base::arena::Placed;
use crate::error::Result;

/// Seen from outside an endpoint for `Ctx<S>`, whatever `S` is; inside it has a `Ctx<T>`.
pub(crate) struct Mounted<T> {
    pub(crate) shared: Rc<Shared<T>>,
    pub(crate) layers: Chain<T>,
    pub(crate) end: Box<dyn Endpoint<T>>,
}

/// What answers misses inside: wrong methods have their own answer.
pub(crate) struct Missed<T>(pub(crate) Option<Box<dyn Endpoint<T>>>);

impl<T: 'static> Endpoint<T> for Missed<T> {
    fn call<'a>(&'a self, cx: &'a Ctx<T>) -> Placed<'a, Result<Reply>> {
        match &self.0 {
            Some(own) if cx.core.allow.is_none() => own.call(cx),
            _ => Missing.call(cx),
        }
    }
}

impl<S: 'static, T: 'static> Endpoint<S> for Mounted<T> {
    fn call<'a>(&'a self, cx: &'a Ctx<S>) -> Placed<'a, Result<Reply>> {
        cx.core.arena.place(move || async move {
            let shared = &*self.shared;
            let inner = Ctx { core: cx.core.clone(), state: shared.state.clone() };
            let result = run_chain(&inner, shared, &self.layers, &*self.end).await;
            match result {
                // Errors of a part have the look of the part, where it has one.
                Err(error) if shared.shapes_errors() => Ok(shared.settle(&inner, Err(error))),
                result => result,
            }
        })
    }
}
