//! The drills, by concern.

pub(crate) mod bench;
pub(crate) mod classes;
pub(crate) mod database;
pub(crate) mod garbage;
pub(crate) mod kills;
pub(crate) mod network;
pub(crate) mod order;
pub(crate) mod pacing;
pub(crate) mod provider;
pub(crate) mod restore;
pub(crate) mod stops;
