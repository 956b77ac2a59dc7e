//! A real PostgreSQL for tests: one private server per test process, one database per test.
//!
//! With `BONGSU_TEST_POSTGRES` set to the URL of a server, databases are made there. Otherwise the
//! installed PostgreSQL runs in a directory of its own, reached by a Unix socket only. A shell
//! watches over it and holds one end of a pipe: when the last test drops its [`Postgres`], or when
//! the test process dies in any way, the pipe closes, the server stops and the directory goes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, Result, bail};

/// Names the server to use instead of a private one.
pub const SERVER_VARIABLE: &str = "BONGSU_TEST_POSTGRES";

/// `$1` programs, `$2` directory, `$3` server options.
const WATCH: &str = r#"
"$1/initdb" -D "$2/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$2/log" 2>&1 &&
"$1/pg_ctl" -D "$2/data" -l "$2/log" -w -t 60 -o "$3" start >>"$2/log" 2>&1 || {
    tail -n 20 "$2/log"
    rm -rf "$2"
    exit 1
}
# The tests may be gone by now; that must not end the watcher before its work is done.
trap '' PIPE
echo ready 2>/dev/null
read -r _ || :
"$1/pg_ctl" -D "$2/data" -m immediate -w stop >/dev/null 2>&1
rm -rf "$2"
"#;

/// Faster and as strong against a killed process; only a power cut would lose something.
const FOR_TESTS: &str = "-c fsync=off -c full_page_writes=off -c max_connections=200";
/// As installed.
const DURABLE: &str = "-c max_connections=200";

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// A database of its own; dropped with it.
#[derive(Debug)]
pub struct Postgres {
    server: Arc<Server>,
    name: String,
}

impl Postgres {
    /// A new database on the shared server of this process. Blocks for about two seconds when it
    /// is the first.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start. There is no silent way around.
    pub fn start() -> Result<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = match shared.upgrade() {
            Some(server) => server,
            None => {
                let server = Arc::new(Server::start(FOR_TESTS)?);
                *shared = Arc::downgrade(&server);
                server
            }
        };
        drop(shared);
        Self::on(server)
    }

    /// A new database on a server of its own that writes through to the disk, for measurements.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_durable() -> Result<Self> {
        Self::on(Arc::new(Server::start(DURABLE)?))
    }

    /// A new database on a server that is reached over TCP, so that a [`FaultProxy`](crate::FaultProxy)
    /// can stand before it: a server of its own, or the given one; its address too.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_tcp() -> Result<(Self, SocketAddr)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let options = format!("{FOR_TESTS} -c listen_addresses=127.0.0.1 -c port={port}");
        let mut server = Server::start(&options)?;
        if server.private.is_some() {
            server.base = (
                format!("postgres://postgres@127.0.0.1:{port}/"),
                String::new(),
            );
        }
        let authority = authority(&server.base.0);
        let address = authority
            .to_socket_addrs()
            .with_context(|| format!("{authority} is no host and port"))?
            .next()
            .with_context(|| format!("{authority} has no address"))?;
        Ok((Self::on(Arc::new(server))?, address))
    }

    /// As [`Postgres::url`], through something that stands before it at `address`.
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        let url = self.url();
        url.replacen(authority(&url), &address.to_string(), 1)
    }

    /// Runs a statement in this database, as its owner.
    ///
    /// # Errors
    /// When PostgreSQL refuses it.
    pub fn run(&self, statement: &str) -> Result<()> {
        self.server.run_in(&self.name, statement).map(drop)
    }

    /// Runs a query in this database and gives what psql prints of it, unaligned.
    ///
    /// # Errors
    /// When PostgreSQL refuses it.
    pub fn ask(&self, query: &str) -> Result<String> {
        self.server.run_in(&self.name, query)
    }

    fn on(server: Arc<Server>) -> Result<Self> {
        let name = format!("bongsu_{}", uuid::Uuid::new_v4().simple());
        server.sql(&format!("CREATE DATABASE {name}"))?;
        Ok(Self { server, name })
    }

    /// `postgres://…`, for `store.url`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Ends every connection to this database, as a restart of the server would.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn cut_connections(&self) -> Result<()> {
        self.server.sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        ))
    }

    /// Refuses (or takes again) new connections to this database and ends the present ones.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn set_reachable(&self, reachable: bool) -> Result<()> {
        self.server.sql(&format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS {reachable}",
            self.name
        ))?;
        if reachable {
            Ok(())
        } else {
            self.cut_connections()
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let gone = self
            .server
            .sql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A private server takes it along anyway.
        drop(gone);
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

#[derive(Debug)]
struct Server {
    programs: PathBuf,
    /// URL up to the database, and what follows it.
    base: (String, String),
    private: Option<(Child, Option<ChildStdin>)>,
}

impl Server {
    fn start(options: &str) -> Result<Self> {
        let programs = programs()?;
        if let Ok(url) = std::env::var(SERVER_VARIABLE) {
            return Ok(Self {
                programs,
                base: split_url(&url)?,
                private: None,
            });
        }
        let directory = std::env::temp_dir().join(format!("bongsu-pg-{}", std::process::id()));
        let directory = unused(directory);
        fs::create_dir(&directory)
            .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        let (child, stdin) = watch(&programs, &directory, options).inspect_err(|_| {
            // The start is what failed; what is left behind is only in the way.
            drop(fs::remove_dir_all(&directory));
        })?;
        let host = directory.to_string_lossy().replace('/', "%2F");
        Ok(Self {
            programs,
            base: (
                "postgres://postgres@localhost/".to_owned(),
                format!("?host={host}"),
            ),
            private: Some((child, Some(stdin))),
        })
    }

    fn url(&self, database: &str) -> String {
        format!("{}{database}{}", self.base.0, self.base.1)
    }

    fn sql(&self, statement: &str) -> Result<()> {
        self.run_in("postgres", statement).map(drop)
    }

    fn run_in(&self, database: &str, statement: &str) -> Result<String> {
        let done = Command::new(self.programs.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                statement,
            ])
            .arg(self.url(database))
            .stdin(Stdio::null())
            .output()
            .context("psql cannot be run")?;
        if !done.status.success() {
            bail!(
                "PostgreSQL refuses `{statement}`: {}",
                String::from_utf8_lossy(&done.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, stdin)) = &mut self.private {
            // Closing the pipe is the watcher's sign to stop the server.
            drop(stdin.take());
            drop(child.wait());
        }
    }
}

fn unused(wanted: PathBuf) -> PathBuf {
    if wanted.exists() {
        wanted.with_extension(uuid::Uuid::new_v4().simple().to_string())
    } else {
        wanted
    }
}

fn watch(programs: &Path, directory: &Path, options: &str) -> Result<(Child, ChildStdin)> {
    let sockets = directory.to_string_lossy();
    let mut command = Command::new("sh");
    command
        .args(["-c", WATCH, "sh"])
        .arg(programs)
        .arg(directory)
        .arg(format!(
            "-c listen_addresses= -c unix_socket_directories={sockets} {options}"
        ))
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        // Ctrl-C is for the tests; the watcher hears of it by the pipe.
        .process_group(0);
    if fs::metadata(directory)?.uid() == 0 {
        // PostgreSQL refuses to run as root.
        let (uid, gid) = unprivileged()?;
        chown(directory, Some(uid), Some(gid))?;
        command.uid(uid).gid(gid);
    }
    let mut child = command.spawn().context("sh cannot be run")?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("the watcher of PostgreSQL has no pipes");
    };
    let mut output = BufReader::new(stdout);
    let mut said = String::new();
    output.read_line(&mut said)?;
    if said.trim() == "ready" {
        return Ok((child, stdin));
    }
    output.read_to_string(&mut said)?;
    child.wait()?;
    bail!("PostgreSQL did not start:\n{said}");
}

/// The user and group that PostgreSQL runs as when the tests run as root.
fn unprivileged() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|wanted| {
            users.lines().find_map(|line| {
                let mut fields = line.split(':');
                if fields.next() != Some(wanted) {
                    return None;
                }
                let uid = fields.nth(1)?.parse().ok()?;
                Some((uid, fields.next()?.parse().ok()?))
            })
        })
        .context("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

/// The newest installed PostgreSQL.
fn programs() -> Result<PathBuf> {
    let mut candidates: Vec<(u32, PathBuf)> = Vec::new();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        for version in versions.flatten() {
            let number = version.file_name().to_string_lossy().parse().unwrap_or(0);
            candidates.push((number, version.path().join("bin")));
        }
    }
    candidates.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    candidates
        .into_iter()
        .rev()
        .map(|(_, directory)| directory)
        .chain(std::env::split_paths(&path))
        .find(|directory| {
            ["initdb", "pg_ctl", "postgres", "psql"]
                .iter()
                .all(|program| directory.join(program).exists())
        })
        .with_context(|| {
            format!(
                "this test needs a real PostgreSQL: install one (Debian: apt-get install \
                 postgresql) or point {SERVER_VARIABLE} at a server where databases may be made"
            )
        })
}

/// `postgres://user@host/` and `?query` around the database's name.
fn split_url(url: &str) -> Result<(String, String)> {
    let (front, query) = match url.split_once('?') {
        Some((front, query)) => (front, format!("?{query}")),
        None => (url, String::new()),
    };
    let Some((scheme, rest)) = front.split_once("://") else {
        bail!("{SERVER_VARIABLE} must be postgres://user:password@host/database");
    };
    let authority = rest.split('/').next().unwrap_or_default();
    Ok((format!("{scheme}://{authority}/"), query))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_in_a_url_is_replaced() {
        let (front, back) = split_url("postgres://u:p@h:5432/x?sslmode=disable").unwrap();
        assert_eq!(
            format!("{front}y{back}"),
            "postgres://u:p@h:5432/y?sslmode=disable"
        );
    }
}
