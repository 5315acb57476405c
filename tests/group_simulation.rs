//! A group among simulated clients: random orders, delays, crashes, lies and restarts.
//!
//! A run is a function of its seed, which is printed. Checked all the time: every request is answered once;
//! no partition has two owners in one generation, whatever path the answers took; no generation is used
//! twice, over a restart too; no answer says what is not durable. Checked after the chaos: the group is
//! stable with exactly the clients that live, and every partition has an owner.

use bytes::Bytes;
use millstream::coordinator::groups::classic::group::{Group, GroupState};
use millstream::coordinator::groups::classic::messages::*;
use millstream::coordinator::groups::config::GroupConfig;
use millstream::coordinator::groups::error::GroupError;
use millstream::coordinator::parked::Token;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

const PARTITIONS: u8 = 12;
const CHAOS_MS: i64 = 10 * 60_000;
/// New members and parked requests of dead clients may take five minutes to go; the rest takes a few
/// session and rebalance timeouts.
const CALM_MS: i64 = 15 * 60_000;
const SEEDS: u64 = 150;
/// Runs only this seed.
const SEED_VARIABLE: &str = "MILLSTREAM_TEST_SEED";

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: i64) -> i64 {
        (self.next() % bound.max(1) as u64) as i64
    }

    fn one_in(&mut self, many: i64) -> bool {
        self.below(many) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Joining,
    Syncing,
    Running,
}

/// The state of a client.
struct Client {
    name: usize,
    instance: Option<String>,
    /// Keeps its partitions through a rebalance (KIP-429).
    cooperative: bool,
    knows_member_id_required: bool,
    /// Takes up to this long for everything (ms), during the chaos.
    slowness_ms: i64,
    session_ms: i64,
    rebalance_ms: i64,
    alive: bool,
    member_id: String,
    generation: i32,
    phase: Phase,
    owned: BTreeSet<u8>,
    /// Changes when requests and answers that are under way no longer count.
    epoch: u64,
    waiting_for: Option<Token>,
}

enum Request {
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat,
}

enum Event {
    /// A client's request reaches the group.
    Arrives(usize, u64, Request),
    /// An answer reaches its client.
    Answered(usize, u64, Reply),
    /// A client starts to join (again).
    Starts(usize, u64),
    Persisted(u64, PersistId, bool),
    Chaos,
}

struct Simulation {
    random: Random,
    config: Arc<GroupConfig>,
    group: Group,
    now_ms: i64,
    events: BinaryHeap<Reverse<(i64, u64)>>,
    pending: BTreeMap<(i64, u64), Event>,
    next: u64,
    clients: Vec<Client>,
    /// Requests that are not answered yet: the client, its epoch, and the generation.
    open: BTreeMap<Token, (usize, u64, i32)>,
    /// How often the broker was restarted: what it began before a restart does not end.
    life: u64,
    on_disk: Option<GroupSnapshot>,
    in_flight: BTreeMap<PersistId, GroupSnapshot>,
    /// The owner of each partition, by generation.
    given: BTreeMap<(i32, u8), String>,
    last: (GroupState, i32),
    /// Generations that members heard of.
    started: BTreeSet<i32>,
    /// The generation of the last restart.
    restarted_from: i32,
    ids_made: u64,
    calm: bool,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = Random(seed);
        let config = Arc::new(GroupConfig {
            initial_rebalance_delay_ms: [0, 500, 3_000][random.below(3) as usize],
            ..GroupConfig::default()
        });
        let cooperative = random.one_in(2);
        let mut simulation = Simulation {
            group: Group::new(Arc::clone(&config), 0),
            random,
            config,
            now_ms: 0,
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            next: 0,
            clients: Vec::new(),
            open: BTreeMap::new(),
            life: 0,
            on_disk: None,
            in_flight: BTreeMap::new(),
            given: BTreeMap::new(),
            last: (GroupState::Empty, 0),
            started: BTreeSet::new(),
            restarted_from: 0,
            ids_made: 0,
            calm: false,
        };
        for _ in 0..2 + simulation.random.below(6) {
            let instance = simulation.random.one_in(3);
            simulation.start_client(instance, cooperative);
        }
        simulation.after(0, Event::Chaos);
        simulation
    }

    fn start_client(&mut self, is_static: bool, cooperative: bool) {
        let name = self.clients.len();
        let instance = is_static.then(|| format!("static{name}"));
        self.start_process(instance, cooperative);
    }

    fn start_process(&mut self, instance: Option<String>, cooperative: bool) {
        let name = self.clients.len();
        let slowness_ms = [20, 20, 2_000, 90_000][self.random.below(4) as usize];
        self.clients.push(Client {
            name,
            instance,
            cooperative,
            knows_member_id_required: !self.random.one_in(4),
            slowness_ms,
            session_ms: 6_000 + self.random.below(24_000),
            rebalance_ms: 1_000 + self.random.below(60_000),
            alive: true,
            member_id: String::new(),
            generation: -1,
            phase: Phase::Joining,
            owned: BTreeSet::new(),
            epoch: 0,
            waiting_for: None,
        });
        let delay_ms = self.random.below(10_000);
        self.after(delay_ms, Event::Starts(name, 0));
    }

    // ---- the world ----

    fn after(&mut self, delay_ms: i64, event: Event) {
        let at = (self.now_ms + delay_ms, self.next);
        self.next += 1;
        self.events.push(Reverse(at));
        self.pending.insert(at, event);
    }

    fn run_until(&mut self, end_ms: i64) {
        loop {
            let event_ms = self.events.peek().map(|Reverse((at_ms, _))| *at_ms);
            let timer_ms = self.group.next_deadline();
            let Some(at_ms) = event_ms.into_iter().chain(timer_ms).min() else {
                break;
            };
            if at_ms > end_ms {
                break;
            }
            self.now_ms = self.now_ms.max(at_ms);
            if timer_ms.is_some_and(|timer_ms| timer_ms <= self.now_ms) {
                let mut out = Vec::new();
                self.group.tick(self.now_ms, &mut out);
                self.do_actions(out);
                let next_ms = self.group.next_deadline();
                assert!(
                    next_ms.is_none_or(|next_ms| next_ms > self.now_ms),
                    "a timer spins"
                );
            } else if let Some(Reverse(at)) = self.events.pop() {
                let event = self.pending.remove(&at).expect("an event");
                self.happen(event);
            }
        }
        self.now_ms = end_ms;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(client, epoch, request) => self.arrive(client, epoch, request),
            Event::Answered(client, epoch, reply) => {
                let current = &self.clients[client];
                if current.alive && current.epoch == epoch {
                    self.answered(client, reply);
                }
            }
            Event::Starts(client, epoch) => {
                let current = &self.clients[client];
                if current.alive && current.epoch == epoch {
                    self.send_join(client);
                }
            }
            Event::Persisted(life, id, ok) => {
                if life == self.life {
                    self.persisted(id, ok);
                }
            }
            Event::Chaos if !self.calm => {
                self.make_trouble();
                let pause_ms = self.random.below(20_000);
                self.after(pause_ms, Event::Chaos);
            }
            Event::Chaos => {}
        }
    }

    fn persisted(&mut self, id: PersistId, ok: bool) {
        let snapshot = self.in_flight.remove(&id).expect("a snapshot once");
        if ok {
            self.on_disk = Some(snapshot);
        }
        let mut out = Vec::new();
        self.group.persist_done(id, ok, self.now_ms, &mut out);
        self.do_actions(out);
    }

    fn latency(&mut self, client: usize) -> i64 {
        let slowness_ms = if self.calm {
            20
        } else {
            self.clients[client].slowness_ms
        };
        1 + self.random.below(slowness_ms)
    }

    fn do_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply(token, reply) => self.reply(token, reply),
                Action::Persist(id, snapshot) => {
                    self.in_flight.insert(id, *snapshot);
                    let ok = self.calm || !self.random.one_in(20);
                    // In order, as in a log.
                    let delay_ms = 5;
                    self.after(delay_ms, Event::Persisted(self.life, id, ok));
                }
            }
        }
        self.check_group();
    }

    fn reply(&mut self, token: Token, reply: Reply) {
        let opened = self.open.remove(&token);
        let (client, epoch, generation) = opened.expect("a request is answered once");
        match &reply {
            Reply::Sync(Ok(reply)) => self.note_assignment(client, generation, &reply.assignment),
            Reply::Join(Ok(reply)) => assert_eq!(reply.generation, self.group.generation()),
            _ => {}
        }
        let delay_ms = self.latency(client);
        self.after(delay_ms, Event::Answered(client, epoch, reply));
    }

    /// The most important rule: a partition has one owner in a generation. A static member is the same owner
    /// under every id.
    fn note_assignment(&mut self, client: usize, generation: i32, assignment: &Bytes) {
        let stored = self.on_disk.as_ref().expect("told only what is durable");
        assert_eq!(stored.generation, generation, "told only what is durable");
        let client = &self.clients[client];
        let owner = match &client.instance {
            Some(instance) => instance.clone(),
            None => format!("client{}", client.name),
        };
        for partition in assignment {
            let given = self.given.entry((generation, *partition));
            assert_eq!(*given.or_insert_with(|| owner.clone()), owner);
        }
    }

    fn check_group(&mut self) {
        let (state, generation) = (self.group.state(), self.group.generation());
        let (last_state, last_generation) = self.last;
        assert!(
            generation >= last_generation,
            "{generation} after {last_generation}"
        );
        let is_started =
            generation != last_generation || last_state != GroupState::CompletingRebalance;
        if state == GroupState::CompletingRebalance && is_started {
            assert!(
                self.started.insert(generation),
                "{generation} is used twice"
            );
        }
        self.last = (state, generation);
        let has_members = !self.group.describe().members.is_empty();
        match state {
            GroupState::Empty => assert!(!has_members),
            GroupState::PreparingRebalance => {
                assert!(self.group.next_deadline().is_some(), "stuck")
            }
            _ => assert!(has_members),
        }
    }

    // ---- trouble ----

    fn make_trouble(&mut self) {
        let client = self.random.below(self.clients.len() as i64) as usize;
        match self.random.below(12) {
            0 => self.kill(client),
            1 => {
                let cooperative = self.clients[client].cooperative;
                let is_static = self.random.one_in(3);
                self.start_client(is_static, cooperative);
            }
            2 | 3 => self.restart_process(client),
            4 | 5 => self.break_connection(client),
            6 => self.leave(client),
            7 => self.restart_broker(),
            8 | 9 => self.lie(client),
            10 => self.clients[client].slowness_ms = [20, 90_000][self.random.below(2) as usize],
            _ => {
                // A rebalance for no reason.
                if self.clients[client].alive {
                    self.start_over(client, 0);
                }
            }
        }
        let living = self.clients.iter().filter(|client| client.alive).count();
        if living < 2 {
            let cooperative = self.clients[client].cooperative;
            self.start_client(false, cooperative);
        }
    }

    /// The process dies. Its connection breaks, unless the whole host is gone.
    fn kill(&mut self, client: usize) {
        if self.calm || !self.random.one_in(3) {
            self.drop_request(client);
        }
        self.clients[client].alive = false;
        self.clients[client].epoch += 1;
    }

    /// A static member's process starts again at once, without its member id.
    fn restart_process(&mut self, client: usize) {
        if !self.clients[client].alive {
            return;
        }
        self.kill(client);
        let instance = self.clients[client].instance.clone();
        let cooperative = self.clients[client].cooperative;
        self.start_process(instance, cooperative);
    }

    fn break_connection(&mut self, client: usize) {
        if self.clients[client].alive && self.clients[client].waiting_for.is_some() {
            self.drop_request(client);
            let delay_ms = self.latency(client);
            self.start_over(client, delay_ms);
        }
    }

    fn drop_request(&mut self, client: usize) {
        if let Some(token) = self.clients[client].waiting_for.take()
            && self.open.remove(&token).is_some()
        {
            let mut out = Vec::new();
            self.group.remove_token(token, self.now_ms, &mut out);
            self.do_actions(out);
        }
    }

    fn leave(&mut self, client: usize) {
        let leaving = LeavingMember {
            member_id: self.clients[client].member_id.clone(),
            instance_id: self.clients[client].instance.clone(),
        };
        let mut out = Vec::new();
        let left = self.group.leave(vec![leaving], self.now_ms, &mut out);
        assert_eq!(left.expect("the group lives").len(), 1);
        self.do_actions(out);
        self.kill(client);
    }

    /// kill -9: what was not durable is gone, and so are all connections.
    fn restart_broker(&mut self) {
        self.life += 1;
        self.in_flight.clear();
        self.open.clear();
        let config = Arc::clone(&self.config);
        self.group = match self.on_disk.clone() {
            Some(snapshot) => {
                let group = Group::restore(config, snapshot.clone(), self.now_ms);
                assert_eq!(group.snapshot(), snapshot);
                group
            }
            None => Group::new(config, self.now_ms),
        };
        let durable = self.group.generation();
        if self.restarted_from == durable {
            // It died twice from the same state: what the first run began is not remembered.
            self.started.retain(|generation| *generation <= durable);
        }
        self.restarted_from = durable;
        self.last = (self.group.state(), durable);
        for client in 0..self.clients.len() {
            if self.clients[client].alive && self.clients[client].waiting_for.take().is_some() {
                let delay_ms = self.latency(client);
                self.start_over(client, delay_ms);
            }
        }
    }

    /// Requests with a wrong generation or a wrong id change nothing and are answered.
    fn lie(&mut self, client: usize) {
        let before = self.group.snapshot();
        let wrong = self.group.generation() - 1;
        let member_id = self.clients[client].member_id.clone();
        let now_ms = self.now_ms;
        assert!(
            self.group
                .heartbeat(&member_id, None, wrong, now_ms)
                .is_err()
        );
        assert!(
            self.group
                .heartbeat("ghost", None, wrong + 1, now_ms)
                .is_err()
        );
        let mut out = Vec::new();
        for (member_id, generation) in [(member_id, wrong), ("ghost".into(), wrong + 1)] {
            let request = SyncRequest {
                member_id: member_id.clone(),
                generation,
                assignments: vec![(member_id, Bytes::from_static(&[0, 1, 2]))],
                ..SyncRequest::default()
            };
            let token = self.token();
            self.group.sync(request, token, now_ms, &mut out);
            let answer = out.pop();
            assert!(
                matches!(answer, Some(Action::Reply(other, Reply::Sync(Err(_)))) if other == token)
            );
        }
        assert!(out.is_empty());
        assert_eq!(self.group.snapshot(), before);
    }

    // ---- the clients ----

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    /// Forgets requests that are under way and joins after a while.
    fn start_over(&mut self, client: usize, delay_ms: i64) {
        let current = &mut self.clients[client];
        current.epoch += 1;
        current.phase = Phase::Joining;
        current.waiting_for = None;
        let epoch = current.epoch;
        self.after(delay_ms, Event::Starts(client, epoch));
    }

    fn send(&mut self, client: usize, request: Request) {
        let delay_ms = self.latency(client);
        let epoch = self.clients[client].epoch;
        self.after(delay_ms, Event::Arrives(client, epoch, request));
    }

    /// A dead client's requests may still arrive; their answers are dropped.
    fn arrive(&mut self, client: usize, epoch: u64, request: Request) {
        let mut out = Vec::new();
        let token = self.token();
        let is_waiting = self.clients[client].alive && self.clients[client].epoch == epoch;
        if is_waiting && !matches!(request, Request::Heartbeat) {
            self.clients[client].waiting_for = Some(token);
        }
        match request {
            Request::Join(request) => {
                self.open.insert(token, (client, epoch, -1));
                self.group.join(request, token, self.now_ms, &mut out);
            }
            Request::Sync(request) => {
                self.open.insert(token, (client, epoch, request.generation));
                self.group.sync(request, token, self.now_ms, &mut out);
            }
            Request::Heartbeat => {
                if is_waiting {
                    self.heartbeat(client);
                }
            }
        }
        self.do_actions(out);
        if !is_waiting && self.open.remove(&token).is_some() {
            let mut out = Vec::new();
            self.group.remove_token(token, self.now_ms, &mut out);
            self.do_actions(out);
        }
    }

    fn send_join(&mut self, client: usize) {
        self.ids_made += 1;
        let current = &mut self.clients[client];
        current.phase = Phase::Joining;
        if !current.cooperative {
            current.owned.clear();
        }
        // A cooperative client reports its partitions.
        let owned: Vec<u8> = current.owned.iter().copied().collect();
        let request = JoinRequest {
            member_id: current.member_id.clone(),
            new_member_id: format!("client{}-{}", current.name, self.ids_made),
            instance_id: current.instance.clone(),
            client_id: format!("client{}", current.name),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: current.session_ms as i32,
            rebalance_timeout_ms: current.rebalance_ms as i32,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "assignor".into(),
                metadata: Bytes::from(owned),
            }],
            requires_known_member_id: current.knows_member_id_required,
            supports_skip_assignment: current.knows_member_id_required,
        };
        self.send(client, Request::Join(request));
    }

    fn answered(&mut self, client: usize, reply: Reply) {
        self.clients[client].waiting_for = None;
        match reply {
            Reply::Join(Ok(reply)) => self.joined(client, reply),
            Reply::Sync(Ok(reply)) => self.synced(client, reply.assignment),
            Reply::Join(Err(error)) | Reply::Sync(Err(error)) => self.failed(client, error),
        }
    }

    fn joined(&mut self, client: usize, reply: JoinReply) {
        let current = &mut self.clients[client];
        current.member_id = reply.member_id.clone();
        current.generation = reply.generation;
        current.phase = Phase::Syncing;
        let leads = reply.leader == reply.member_id && !reply.skip_assignment;
        let request = SyncRequest {
            member_id: reply.member_id,
            instance_id: current.instance.clone(),
            generation: reply.generation,
            protocol_type: Some(reply.protocol_type),
            protocol: Some(reply.protocol),
            assignments: if leads {
                assign(&reply.members, current.cooperative)
            } else {
                Vec::new()
            },
        };
        self.send(client, Request::Sync(request));
        self.send(client, Request::Heartbeat);
    }

    fn synced(&mut self, client: usize, assignment: Bytes) {
        let current = &mut self.clients[client];
        let assigned: BTreeSet<u8> = assignment.iter().copied().collect();
        let revoked = current.owned.difference(&assigned).count() > 0;
        current.owned = assigned;
        current.phase = Phase::Running;
        if current.cooperative && revoked {
            // Others wait for the partitions it just gave up.
            self.start_over(client, 0);
        }
    }

    fn heartbeat(&mut self, client: usize) {
        let current = &self.clients[client];
        let (member_id, instance) = (current.member_id.clone(), current.instance.clone());
        let generation = current.generation;
        let now_ms = self.now_ms;
        let result = self
            .group
            .heartbeat(&member_id, instance.as_deref(), generation, now_ms);
        match result {
            Err(error) if self.clients[client].phase == Phase::Running => {
                self.failed(client, error)
            }
            // While it syncs, the answer to the sync brings errors.
            _ => {
                let current = &self.clients[client];
                let pause_ms = current.session_ms / 3;
                let event = Event::Arrives(client, current.epoch, Request::Heartbeat);
                self.after(pause_ms, event);
            }
        }
    }

    fn failed(&mut self, client: usize, error: GroupError) {
        let current = &mut self.clients[client];
        match error {
            GroupError::MemberIdRequired(id) => current.member_id = id,
            GroupError::UnknownMemberId => {
                current.member_id.clear();
                current.owned.clear();
            }
            GroupError::IllegalGeneration => current.owned.clear(),
            GroupError::RebalanceInProgress | GroupError::NotCoordinator => {}
            GroupError::FencedInstanceId => {
                let newer = &self.clients[client + 1..];
                let instance = &self.clients[client].instance;
                let is_replaced = newer.iter().any(|other| other.instance == *instance);
                // Otherwise it fenced itself: its answer with the new id was lost.
                self.clients[client].member_id.clear();
                if is_replaced {
                    return self.kill(client);
                }
            }
            error => panic!("{error:?}"),
        }
        let pause_ms = 50 + self.random.below(100);
        self.start_over(client, pause_ms);
    }

    // ---- the end ----

    /// With living clients and a working disk every group becomes stable.
    fn check_settled(&self) {
        let living: Vec<&Client> = self.clients.iter().filter(|client| client.alive).collect();
        let members = self.group.snapshot().members;
        let ids: BTreeSet<&str> = members
            .iter()
            .map(|member| member.member_id.as_str())
            .collect();
        assert_eq!(
            self.group.state(),
            GroupState::Stable,
            "{:?}",
            self.group.describe()
        );
        assert!(self.open.is_empty(), "{:?}", self.open);
        assert_eq!(
            ids,
            living
                .iter()
                .map(|client| client.member_id.as_str())
                .collect()
        );
        let mut owners = BTreeMap::new();
        for client in living {
            assert_eq!(client.phase, Phase::Running, "client{}", client.name);
            assert_eq!(client.generation, self.group.generation());
            for partition in &client.owned {
                assert_eq!(owners.insert(*partition, client.name), None);
            }
        }
        assert_eq!(owners.len(), usize::from(PARTITIONS));
        let stored = self.on_disk.clone().expect("a snapshot");
        assert_eq!(stored.generation, self.group.generation());
        let restored = Group::restore(Arc::clone(&self.config), stored, self.now_ms);
        assert_eq!(restored.describe().protocol, self.group.describe().protocol);
    }
}

/// Assigns the partitions. Cooperatively, a partition that changes its owner has none for one generation.
fn assign(members: &[JoinedMember], cooperative: bool) -> Vec<(String, Bytes)> {
    let mut members: Vec<&JoinedMember> = members.iter().collect();
    members.sort_by_key(|member| &member.member_id);
    let has = |member: &JoinedMember, partition| member.metadata.contains(&partition);
    let dealt = |index: usize| {
        let mine = |partition: &u8| {
            let is_target = usize::from(*partition) % members.len() == index;
            let mut others = members
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let is_held = others.any(|(_, other)| has(other, *partition));
            is_target && !(cooperative && is_held)
        };
        (0..PARTITIONS).filter(mine).collect::<Vec<u8>>()
    };
    let assigned = members.iter().enumerate();
    assigned
        .map(|(index, member)| (member.member_id.clone(), Bytes::from(dealt(index))))
        .collect()
}

fn run(seed: u64) -> usize {
    println!("seed {seed}");
    let mut simulation = Simulation::new(seed);
    simulation.run_until(CHAOS_MS);
    simulation.calm = true;
    simulation.run_until(CHAOS_MS + CALM_MS);
    simulation.check_settled();
    simulation.started.len()
}

#[test]
fn no_partition_has_two_owners_and_no_group_is_stuck() {
    if let Some(seed) = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        run(seed);
        return;
    }
    let generations: usize = (0..SEEDS).map(run).sum();
    assert!(
        generations > 10 * SEEDS as usize,
        "only {generations} generations"
    );
}

#[test]
fn when_all_clients_die_the_group_becomes_empty() {
    for seed in 0..SEEDS / 10 {
        println!("seed {seed}");
        let mut simulation = Simulation::new(seed);
        simulation.run_until(CHAOS_MS / 10);
        simulation.calm = true;
        for client in 0..simulation.clients.len() {
            simulation.kill(client);
        }
        simulation.run_until(CHAOS_MS / 10 + CALM_MS);
        assert_eq!(simulation.group.state(), GroupState::Empty);
        assert!(simulation.group.is_idle());
        assert_eq!(simulation.group.next_deadline(), None);
    }
}
