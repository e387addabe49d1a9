//! Starts, runs and drains the server.

use crate::banner;
use crate::command::rename::{self, Renames};
use crate::config::{Config, Loaded, LogLevel, Settings, users};
use crate::keyspace::Keyspace;
use crate::keyspace::cold::warm::{self, WarmStart};
use crate::keyspace::position::Positioner;
use crate::keyspace::tiering;
use crate::memory::oom_score;
use crate::net::acceptor::Acceptor;
use crate::net::listener::{ACCEPT_QUEUE_MAX, Accepted, run_worker};
use crate::net::open_files;
use crate::net::tls::Tls;
use crate::process_title;
use crate::server::Server;
use crate::services;
use crate::start::directory::{self, DataDirectory};
use crate::start::recover;
use anyhow::{Context as _, bail};
use redrock_daemon::error_text::whole;
use redrock_daemon::huge_pages;
use redrock_daemon::logging::{self, Level, LogConfig, LogHandle};
use redrock_daemon::signals;
use redrock_daemon::tasks::Tasks;
use redrock_log::failpoint;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long workers may take to end after the last socket was closed.
const WORKER_STOP_WAIT: Duration = Duration::from_secs(5);
/// How long calls of companions and operators may take to end; what is left is cut.
const SERVICE_STOP_WAIT: Duration = Duration::from_millis(300);

/// Runs until told to stop. An error is one that the operator must act on.
pub fn run(loaded: Loaded, allow_failpoints: bool) -> anyhow::Result<()> {
    let log = start_logging(&loaded.config)?;
    if allow_failpoints {
        failpoint::arm("server")?;
    }
    let to_file = loaded.config.observation.log_file.is_some();
    let result = run_logged(loaded, log);
    if let Err(error) = &result
        && to_file
    {
        // The caller shows it on standard error, where nobody may look.
        tracing::warn!("{}", whole(error.as_ref()));
    }
    result
}

fn run_logged(loaded: Loaded, log: LogHandle) -> anyhow::Result<()> {
    let Loaded { config, notices } = loaded;
    banner::starting(&config, &notices);
    let config = with_room_for_clients(config)?;
    std::env::set_current_dir(&config.dir)
        .with_context(|| format!("enter dir '{}'", config.dir.display()))?;
    match config.memory.without_huge_pages {
        true => huge_pages::keep_away(),
        false => huge_pages::warn_if_unasked(),
    }
    process_title::show(&config);
    rename::install(renames(&config));
    if let Err(error) = oom_score::apply(&config) {
        tracing::warn!(%error, "oom-score-adj not set");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let server = build(config);
    users::load(&server.acl, &server.config()).map_err(anyhow::Error::msg)?;
    add_hooks(&server, &log);
    Tls::add_hook(&server);
    let stop = server.fate.token();
    let result = runtime.block_on(serve(&server, log, stop));
    server.stop();
    server.tls.stop();
    let result = result.and_then(|()| match server.fate.failure() {
        Some(reason) => Err(anyhow::anyhow!(reason)),
        None => Ok(()),
    });
    if result.is_ok() {
        tracing::warn!("RedRock is now ready to exit, bye bye...");
    }
    result
}

fn start_logging(config: &Config) -> anyhow::Result<LogHandle> {
    let role = if config.replication.master.is_some() {
        'S'
    } else {
        'M'
    };
    let log_config = LogConfig {
        level: level(config.observation.log_level),
        file: config.observation.log_file.clone(),
        ..LogConfig::new(role)
    };
    logging::init(&log_config).context("Can't open the log file")
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Verbose => Level::Verbose,
        LogLevel::Notice => Level::Notice,
        LogLevel::Warning => Level::Warning,
        LogLevel::Nothing => Level::Nothing,
    }
}

/// Lowers `maxclients` to what the limit of open files allows.
fn with_room_for_clients(config: Config) -> anyhow::Result<Config> {
    let wanted = config.network.clients_max;
    let Err(possible) = open_files::make_room(wanted) else {
        return Ok(config);
    };
    if possible == 0 {
        bail!("The limit of open files (ulimit -n) is too low for any client");
    }
    tracing::warn!(
        "maxclients has been reduced from {wanted} to {possible} to compensate for low ulimit. If \
         you need higher maxclients increase 'ulimit -n'."
    );
    let settings = Settings::with_number(&config.settings, "maxclients", possible as i128);
    let changed = config.settings.differences(&settings);
    Ok(config.with(settings, changed))
}

fn renames(config: &Config) -> Renames {
    let mut renames = Renames::default();
    for directive in config
        .security
        .directives
        .iter()
        .filter(|d| d.name == "rename-command")
    {
        if let [from, to] = directive.words.as_slice()
            && let Err(why) = renames.rename(from, to)
        {
            // Was checked when it was read.
            tracing::warn!(command = %String::from_utf8_lossy(from), "{why}");
        }
    }
    renames
}

fn build(config: Config) -> Arc<Server> {
    // Keys that are on disk already have their places.
    let kept = config
        .memory
        .tiering
        .then(|| warm::secret(&config.memory.tier_dir));
    let secret = kept
        .flatten()
        .unwrap_or_else(|| (rand::random(), rand::random()));
    let positioner = Positioner::new(secret);
    let mut keyspace = Keyspace::new(config.databases, positioner);
    keyspace.configure(&config.memory);
    let workers = worker_count(config.workers);
    let hex = |_| char::from(b"0123456789abcdef"[rand::random_range(0..16)]);
    let run_id: String = (0..40).map(hex).collect();
    Arc::new(Server::new(config, keyspace, run_id, workers))
}

/// Threads that serve clients. Automatic is one while one lock guards the keyspace: more would
/// only wait for each other.
fn worker_count(configured: usize) -> usize {
    configured.max(1)
}

fn add_hooks(server: &Arc<Server>, log: &LogHandle) {
    let mut hooks = server.config_hooks.write();
    server.set_handle();
    let log = log.clone();
    hooks.add(&["loglevel"], move |_, new| {
        log.set_level(level(new.observation.log_level))
            .map_err(|error| error.to_string())
    });
    let bound = Arc::downgrade(server);
    hooks.add(&["maxmemory", "maxrockmem", "maxpsmem"], move |_, new| {
        let Some(server) = bound.upgrade().filter(|_| new.memory.tiering) else {
            return Ok(());
        };
        if server.memory.has_tier() {
            server.memory.set_limits(&new.memory);
            return Ok(());
        }
        // Not under locks: CONFIG SET sees to it.
        let started = tiering::start::start(&server, &new.memory, None);
        started.map(drop).map_err(|error| format!("{error:#}"))
    });
    hooks.add(&["proc-title-template"], |_, new| {
        process_title::show(new);
        Ok(())
    });
    let scored = Arc::downgrade(server);
    hooks.add(&["oom-score-adj", "oom-score-adj-values"], move |_, new| {
        oom_score::apply(new).map_err(|error| {
            tracing::warn!(%error, "oom-score-adj not set");
            "Failed to set current oom_score_adj. Check server logs.".to_owned()
        })?;
        if let Some(services) = scored.upgrade().and_then(|s| s.services.get().cloned()) {
            oom_score::apply_to_companions(new, services.companions.pids());
        }
        Ok(())
    });
    let synced = Arc::downgrade(server);
    hooks.add(&["appendfsync"], move |_, new| {
        if let Some(server) = synced.upgrade() {
            server.log.set_policy(crate::start::fsync_policy(new));
        }
        Ok(())
    });
    hooks.add(&["dir"], |old, _| {
        // Lock, epoch, log, companions and sockets are the directory's. A name of the same one is no
        // change: names are resolved before.
        Err(format!(
            "the data directory of a running server can't change: end the server, and start it with \
             --dir. It stays {}",
            old.dir.display()
        ))
    });
    let field_expiry = server.keyspace.lock().field_expiry.clone();
    // A data set that needs a later version is refused once it is loaded.
    let _checked_later = field_expiry.set_rdb_version(server.config().snapshot.rdb_version);
    hooks.add(&["rdb-version"], move |_, new| {
        field_expiry.set_rdb_version(new.snapshot.rdb_version)
    });
    hooks.add(&["maxclients"], |_, new| {
        open_files::make_room(new.network.clients_max).map_err(|possible| {
            format!(
                "The operating system is not able to handle the specified number of clients, try \
                 with {possible}"
            )
        })
    });
}

/// Serves until a signal, then drains.
async fn serve(
    server: &Arc<Server>,
    log: LogHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let config = server.config();
    directory::inspect(&config).await?;
    tiering::start::inspect(&config)?;
    let asked = Arc::downgrade(server);
    let ask = move |signal| {
        let server = asked.upgrade();
        server.is_some_and(|server| services::shutdown::asked_by(&server, signal))
    };
    signals::install_asking(ask, Some(log.clone())).context("install signal handlers")?;
    server.loading.begin(0);
    let (queues, workers) = start_workers(server)?;
    Tls::start(server).context("Failed to configure TLS. Check logs for more info.")?;
    let acceptor = Acceptor::open(server.clone(), queues).map_err(|error| {
        let outcome = error.outcome();
        anyhow::Error::from(error).context(outcome)
    })?;
    if !acceptor.is_listening() {
        bail!("Configured to not listen anywhere, exiting.");
    }
    let data = DataDirectory::open(&config, &server.run_id).await?;
    tracing::info!("Server initialized");
    // Before anything can delete what the tier goes on with: nothing expires until all is loaded.
    crate::start::expire_nothing(server);
    let warm = crate::start::warm::find(server, &config, &data);
    let warm = tiering::start::start(server, &config.memory, warm)?;
    crate::keyspace::expire::spawn(server.clone()).context("start active expiry")?;
    crate::keyspace::evict::spawn(server.clone()).context("start eviction")?;
    let sync_thread = crate::log::sync::spawn(server.clone()).context("start the log's thread")?;
    let tasks = Tasks::new();
    services::start::start(server, &data.epoch, &tasks, log).await?;
    let _pid_file = PidFile::write(&config);
    let recovery = start_recovery(server, data, warm)?;
    let ticker = tokio::spawn(tick(server.clone()));
    tasks.spawn(
        "shutdown",
        services::shutdown::run(server.clone(), stop.clone()),
    );
    // Dropping the acceptor closes the workers' queues, and with that the workers end.
    acceptor.run(stop).await;
    ticker.abort();
    let joined = join(workers).await;
    if let Err(error) = tasks.drain(SERVICE_STOP_WAIT).await {
        tracing::debug!("{error}");
    }
    let recovered = tokio::task::spawn_blocking(move || recovery.join()).await;
    let data = match recovered.context("recovery")? {
        Ok(result) => result?,
        Err(_) => bail!("the recovery panicked"),
    };
    server.log.stop_syncing();
    if sync_thread.join().is_err() {
        bail!("the log's thread panicked");
    }
    server
        .log
        .close()
        .map_err(|error| anyhow::anyhow!("finish the append only file: {error}"))?;
    // Only now may another server have the directory.
    drop(data);
    joined
}

/// Loads the data on a thread of its own, while clients are told to wait.
fn start_recovery(
    server: &Arc<Server>,
    data: DataDirectory,
    warm: Option<WarmStart>,
) -> anyhow::Result<JoinHandle<anyhow::Result<DataDirectory>>> {
    let server = server.clone();
    let work = move || {
        let watch = server.fate.watch("recovery");
        let result = recover(&server, &data, warm.as_ref());
        match &result {
            Ok(()) => banner::ready(&server.config()),
            Err(error) => server.fate.fail(whole(error.as_ref())),
        }
        watch.done();
        result.map(|()| data)
    };
    std::thread::Builder::new()
        .name("recovery".into())
        .spawn(work)
        .context("start the recovery")
}

/// Periodic work.
async fn tick(server: Arc<Server>) {
    server.tick();
    let startup = crate::memory::stats::allocated();
    server
        .stats
        .memory_startup
        .store(startup, Ordering::Relaxed);
    let mut ticker = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticker.tick().await;
        server.tick();
    }
}

type Workers = Vec<JoinHandle<std::io::Result<()>>>;

fn start_workers(server: &Arc<Server>) -> anyhow::Result<(Vec<mpsc::Sender<Accepted>>, Workers)> {
    let mut queues = Vec::new();
    let mut threads = Vec::new();
    for index in 0.. {
        let Some(mailbox) = server.mailbox(index).cloned() else {
            break;
        };
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE_MAX);
        queues.push(sender);
        let server = server.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let _watch = server.fate.watch(format!("worker-{index}"));
                run_worker(server.clone(), index, mailbox, receiver)
            })
            .context("start worker")?;
        threads.push(thread);
    }
    Ok((queues, threads))
}

/// Waits for the workers to end, within a bound.
async fn join(workers: Workers) -> anyhow::Result<()> {
    let deadline = Instant::now() + WORKER_STOP_WAIT;
    while workers.iter().any(|worker| !worker.is_finished()) {
        if Instant::now() > deadline {
            bail!("a worker did not end within {WORKER_STOP_WAIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for worker in workers {
        match worker.join() {
            Ok(result) => result.context("worker")?,
            Err(_) => bail!("a worker panicked"),
        }
    }
    Ok(())
}

/// The file with the process id; removed at the end.
struct PidFile(Option<std::path::PathBuf>);

impl PidFile {
    fn write(config: &Config) -> Self {
        let Some(path) = &config.observation.pid_file else {
            return Self(None);
        };
        if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
            // As in Redis, no reason not to serve.
            tracing::warn!(path = %path.display(), %error, "pid file not written");
            return Self(None);
        }
        Self(Some(path.clone()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "pid file not removed");
        }
    }
}
