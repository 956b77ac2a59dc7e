//! The provider contract and one folder per channel.

pub mod provider;
