//! The part of the target guard that resolves names: a resolver that gives public addresses only.
//!
//! The client connects to exactly the addresses this resolver returned, so a name that answers with
//! a public address first and a private one later (DNS rebinding) gains nothing. URLs with a literal
//! address never reach a resolver; [`bongsu_domain::target::check_url`] covers those and is called
//! before every request.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bongsu_domain::target::is_public;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// The name resolves, but to no public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the name resolves to private addresses only")]
pub struct PrivateTarget;

/// Who is asked for the addresses of a name.
pub trait Lookup: Send + Sync {
    /// Every address of `name`; ports are of no meaning.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Lookup for System {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }
}

/// Keeps public addresses only of what a lookup finds. The client connects to what is left and asks
/// for nothing else, so the addresses that were looked at are the ones that are called.
#[derive(Clone)]
pub struct PublicOnly(Arc<dyn Lookup>);

impl PublicOnly {
    /// Guards a lookup.
    #[must_use]
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self(lookup)
    }
}

impl Default for PublicOnly {
    fn default() -> Self {
        Self::new(Arc::new(System))
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let lookup = Arc::clone(&self.0);
        Box::pin(async move {
            let public = keep_public(lookup.lookup(name.as_str()).await?)?;
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// The public ones of the addresses found.
///
/// # Errors
/// [`PrivateTarget`] when there are addresses and none is public. No address at all is an empty
/// answer: the connection fails as it would without the guard, and may be tried again.
pub fn keep_public(
    found: impl IntoIterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, PrivateTarget> {
    let mut refused = false;
    let public: Vec<_> = found
        .into_iter()
        .filter(|address| {
            let public = is_public(address.ip());
            refused |= !public;
            public
        })
        .collect();
    if public.is_empty() && refused {
        return Err(PrivateTarget);
    }
    Ok(public)
}

/// Whether a client's error was caused by [`PublicOnly`].
#[must_use]
pub fn is_private_target(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<PrivateTarget>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn private_addresses_are_dropped_and_a_name_with_nothing_else_is_refused() {
        let mixed = addresses(&["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"]);
        assert_eq!(keep_public(mixed), Ok(addresses(&["8.8.8.8:0"])));
        let private = addresses(&["127.0.0.1:0", "[fd00::1]:0"]);
        assert_eq!(keep_public(private), Err(PrivateTarget));
        assert_eq!(keep_public([]), Ok(vec![]));
    }
}
