//! What was set of the broker's configs while it ran: the defaults of topics, under the broker's names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// For which brokers a config is set. What is set for the node wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerScope {
    /// All brokers of the cluster, of which there is one.
    Cluster,
    /// This broker.
    Node,
}

/// Broker's names to values, as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    pub cluster: BTreeMap<String, String>,
    pub node: BTreeMap<String, String>,
}

impl Dynamic {
    pub fn of(&self, scope: BrokerScope) -> &BTreeMap<String, String> {
        match scope {
            BrokerScope::Cluster => &self.cluster,
            BrokerScope::Node => &self.node,
        }
    }

    pub fn set(&mut self, scope: BrokerScope, configs: BTreeMap<String, String>) {
        match scope {
            BrokerScope::Cluster => self.cluster = configs,
            BrokerScope::Node => self.node = configs,
        }
    }
}
