//! MQTT 3.1, by chapter of IBM's specification of 2010. It numbers no clauses; `[3.1 …]` names its section.

use conformance::prelude::*;
use conformance::scenes;

mod differences;
mod shared;
