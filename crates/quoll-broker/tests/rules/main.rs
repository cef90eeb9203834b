//! The rules, as sentences: what a client does, and what it and the others then hear. Clauses of MQTT 5.0 stand beside
//! each; 3.1.1's where they differ.
//!
//! | act | about |
//! |---|---|
//! | `connecting` | CONNECT, takeover, sessions, keep alive, identities |
//! | `publishing` | PUBLISH and its acknowledgements, aliases, limits |
//! | `subscribing` | SUBSCRIBE, UNSUBSCRIBE, retained messages, overlapping subscriptions |
//! | `delivering` | windows, queues, retransmission, expiry |
//! | `sharing` | shared subscriptions, on one shard and on several |
//! | `wills`, `access` | wills; grants and orders |
//! | `journal` | facts: encoding, and a node that starts from them |
//! | `model` | random towns against a naive model |

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it says")]

mod access;
mod connecting;
mod delivering;
mod journal;
mod model;
mod publishing;
mod sharing;
mod subscribing;
mod town;
mod wills;
