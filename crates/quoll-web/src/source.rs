//! Who answers for what is shown. The program implements [`Source`] over its registry, its CA folder and its broker.

use std::time::SystemTime;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::view::{DeviceDetail, DeviceView, Diagnosis, Overview};

/// Everything the dashboard can ask. Answers are snapshots; nothing is changed by asking.
///
/// A call that takes longer than [`ANSWER_TIME`](crate::limits::ANSWER_TIME) is given up and the reader told 503.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The state of the node and of its certificates.
    async fn overview(&self) -> Overview;

    /// All devices, in any order.
    async fn devices(&self) -> Vec<DeviceView>;

    /// One device by its exact name, `None` if there is no such device.
    async fn device(&self, name: &str) -> Option<DeviceDetail>;

    /// Asks the doctor about a device: its console, the broker, the certificates, the network. Changes nothing, and may take
    /// [`DIAGNOSIS_TIME`](crate::limits::DIAGNOSIS_TIME). `None` if there is no such device, or no doctor.
    async fn diagnose(&self, _name: &str) -> Option<Diagnosis> {
        None
    }

    /// The revocation list of the CA with this mark, or of the CA in force for `None`. It is handed to everybody.
    async fn revocation_list(&self, _mark: Option<&str>) -> Option<RevocationList> {
        None
    }

    /// Changes from now on. A channel with room for a few hundred events suits: a receiver that falls behind is given
    /// the full state again, which [`Source::overview`] and [`Source::devices`] then answer.
    fn live(&self) -> broadcast::Receiver<Live>;
}

/// A revocation list to hand out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevocationList {
    /// DER.
    pub der: Vec<u8>,
    /// Tells this list from every other one: letters and digits.
    pub tag: String,
    /// When it was made.
    pub this_update: Option<SystemTime>,
    /// Until when it is good.
    pub next_update: Option<SystemTime>,
}

/// One change, carrying the whole new value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Live {
    /// A device is new or differs from what was last said about it.
    Device(DeviceView),
    /// The device of this name is no longer in the registry.
    Gone(String),
    /// The node's own state.
    Overview(Overview),
}
