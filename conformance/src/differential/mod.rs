//! Two clients, two brokers, the same bytes: do the answers agree?
//!
//! A seeded generator drives two raw connections against Quoll and against Debian's Mosquitto in lock-step, with valid, odd
//! and malformed packets of all three versions. After each step both connections are fenced (an UNSUBSCRIBE whose answer
//! can only come behind everything else), so nothing waits for silence. What each broker said is brought into a form in
//! which what the standard leaves free is equal; what is left is a difference. It is either a fault, or one of the deliberate
//! ones in `differences.toml`, each with its clause.
//!
//! | file | is for |
//! |---|---|
//! | [`step`] | what can be done to a broker, and how it is printed |
//! | [`generate`] | the seeded generator |
//! | [`packets`] | its packets, right and wrong |
//! | [`judge`] | what a strict reader finds in the bytes of a client |
//! | [`play`] | doing a step to one broker and hearing its answer |
//! | [`compare`] | the two answers side by side, and the rules that explain a difference |
//! | [`pair`] | both brokers, a scenario from its beginning to its first difference, and its shrinking |

pub mod compare;
pub mod generate;
pub mod judge;
pub mod packets;
pub mod pair;
pub mod play;
pub mod step;
