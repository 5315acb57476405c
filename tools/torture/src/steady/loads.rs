//! The loads that the probe runs beside.

use super::scene::Scene;
use super::{groups, partitions, slow};
use anyhow::Context;

/// One load.
pub struct Load {
    pub name: &'static str,
    pub does: &'static str,
    /// Makes what it needs, before anything is measured.
    prepare: fn(&Scene) -> anyhow::Result<()>,
    /// Goes on until the scene ends, and says what came of it.
    run: fn(&Scene) -> anyhow::Result<String>,
}

/// Loads that run at the same time.
pub struct Round {
    pub name: &'static str,
    pub loads: Vec<&'static Load>,
}

const COMBINATION: &str = "combination";
/// One of each kind: members, state that is made and dropped, parked requests, replies that nobody reads,
/// requests that come slowly, long walks.
const COMBINED: [&str; 7] = [
    "groups",
    "join-leave",
    "fetches",
    "unread-replies",
    "half-frames",
    "list-offsets",
    "describe-groups",
];

static LOADS: [Load; 20] = [
    Load {
        name: "alone",
        does: "nothing",
        prepare: nothing,
        run: wait,
    },
    Load {
        name: "connections",
        does: "10,000 connections, each silent after its first request",
        prepare: nothing,
        run: slow::idle_connections,
    },
    Load {
        name: "create-delete",
        does: "topics with all partitions are created and deleted",
        prepare: nothing,
        run: partitions::create_and_delete,
    },
    Load {
        name: "partitions",
        does: "idle partitions",
        prepare: partitions::create,
        run: wait,
    },
    Load {
        name: "groups",
        does: "1,000 groups, each with a member that sends heartbeats",
        prepare: nothing,
        run: groups::heartbeats,
    },
    Load {
        name: "protocols",
        does: "JoinGroups with 150,000 names of protocols",
        prepare: nothing,
        run: groups::many_protocols,
    },
    Load {
        name: "join-leave",
        does: "pairs of JoinGroup and LeaveGroup with names of 32,000 bytes",
        prepare: nothing,
        run: groups::join_and_leave,
    },
    Load {
        name: "parked-joins",
        does: "5 JoinGroups of 58 MiB that wait for another member",
        prepare: nothing,
        run: groups::parked_joins,
    },
    Load {
        name: "half-frames",
        does: "20 requests of 100 MiB: 60 MiB at once, the rest at 2 KB/s",
        prepare: nothing,
        run: slow::half_frames,
    },
    Load {
        name: "unread-replies",
        does: "60 connections that do not read an OffsetFetch's reply of 40 MB",
        prepare: groups::commit_notes,
        run: groups::unread_replies,
    },
    Load {
        name: "offset-delete",
        does: "OffsetDelete of 2,000 partitions in a group that subscribes to 2,000 topics",
        prepare: partitions::create,
        run: groups::delete_offsets,
    },
    Load {
        name: "fetches",
        does: "2 parked fetches of 10,000 partitions, one names each 30 times; beside produces",
        prepare: partitions::create,
        run: partitions::parked_fetches,
    },
    Load {
        name: "describe-groups",
        does: "DescribeGroups of 400,000 names",
        prepare: nothing,
        run: groups::describe_many,
    },
    Load {
        name: "list-offsets",
        does: "ListOffsets of all partitions",
        prepare: partitions::create,
        run: partitions::list_offsets,
    },
    Load {
        name: "metadata",
        does: "Metadata of all partitions",
        prepare: partitions::create,
        run: partitions::metadata,
    },
    Load {
        name: "describe-configs",
        does: "DescribeConfigs of the topics with all partitions",
        prepare: partitions::create,
        run: partitions::describe_configs,
    },
    Load {
        name: "alter-configs",
        does: "IncrementalAlterConfigs of the topics with all partitions",
        prepare: partitions::create,
        run: partitions::alter_configs,
    },
    Load {
        name: "log-dirs",
        does: "DescribeLogDirs of all partitions",
        prepare: partitions::create,
        run: partitions::describe_log_dirs,
    },
    Load {
        name: "http",
        does: "64 HTTP clients that ask for /metrics and do not read; /healthz is asked",
        prepare: nothing,
        run: slow::http_clients,
    },
    Load {
        name: "garbage",
        does: "frames of random bytes, a connection each",
        prepare: nothing,
        run: slow::garbage,
    },
];

/// The rounds of these names; without names all.
///
/// # Errors
/// A name that there is not.
pub fn chosen(names: &[String]) -> anyhow::Result<Vec<Round>> {
    let mut all: Vec<Round> = LOADS.iter().map(Round::of_one).collect();
    let combined = LOADS.iter().filter(|load| COMBINED.contains(&load.name));
    all.push(Round {
        name: COMBINATION,
        loads: combined.collect(),
    });
    let known: Vec<&str> = all.iter().map(|round| round.name).collect();
    for name in names {
        let known_names = known.join(", ");
        let found = known.contains(&name.as_str()).then_some(());
        found.with_context(|| format!("`{name}` is no load; there are: {known_names}"))?;
    }
    all.retain(|round| names.is_empty() || names.iter().any(|name| name == round.name));
    Ok(all)
}

impl Round {
    fn of_one(load: &'static Load) -> Round {
        Round {
            name: load.name,
            loads: vec![load],
        }
    }

    /// # Errors
    /// What could not be prepared.
    pub fn prepare(&self, scene: &Scene) -> anyhow::Result<()> {
        for load in &self.loads {
            (load.prepare)(scene).with_context(|| load.name)?;
        }
        Ok(())
    }

    pub fn does(&self) -> String {
        let does = |load: &&Load| {
            if self.loads.len() > 1 {
                load.name
            } else {
                load.does
            }
        };
        self.loads.iter().map(does).collect::<Vec<_>>().join(" + ")
    }
}

impl Load {
    /// # Errors
    /// A violation, or what the load could not do.
    pub fn run(&self, scene: &Scene) -> anyhow::Result<String> {
        (self.run)(scene).with_context(|| self.name)
    }
}

fn nothing(_: &Scene) -> anyhow::Result<()> {
    Ok(())
}

fn wait(scene: &Scene) -> anyhow::Result<String> {
    scene.wait();
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_a_round_and_the_combination_has_all_of_its_loads() {
        let rounds = chosen(&[]).unwrap();
        assert_eq!(rounds.len(), LOADS.len() + 1);
        assert_eq!(rounds.last().unwrap().loads.len(), COMBINED.len());
        let few = chosen(&["groups".to_owned(), COMBINATION.to_owned()]).unwrap();
        assert_eq!(few.len(), 2);
        assert!(chosen(&["no-such-load".to_owned()]).is_err());
    }
}
