//! The rules of the post office: decides what happens when a packet arrives. Pure: no clock, dice, socket, disk or await.
//!
//! Read [`vocabulary`] first, then [`shard`].

pub mod access;
pub mod change;
pub mod message;
pub mod vocabulary;
