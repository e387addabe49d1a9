//! What `ps` shows of this process: `proc-title-template`.
//!
//! The kernel shows the memory that the arguments were passed in. It is written over, and goes on
//! into the environment's memory, which comes right behind it: [`prepare`] first moves the
//! variables elsewhere.

use crate::config::Config;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The refusal of a template.
pub const INVALID: &str = "template format is invalid or contains unknown variables";

/// The memory that is shown, and the program's name as it was called.
struct Area {
    start: usize,
    bytes: usize,
    program: String,
}

static AREA: Mutex<Option<Area>> = Mutex::new(None);

/// Finds the memory and frees it of the environment. Must be called while the process has one
/// thread.
pub fn prepare() {
    let program = std::env::args_os().next().unwrap_or_default();
    let variables: Vec<_> = std::env::vars_os().collect();
    for (name, value) in variables {
        if name.as_bytes().contains(&b'=') || name.is_empty() {
            // Can't be set again: what lies behind the arguments is in use.
            return;
        }
        // SAFETY: there is no other thread that could read the environment.
        unsafe { std::env::set_var(&name, &value) };
    }
    let Some((start, end)) =
        area_of(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
    else {
        return;
    };
    *AREA.lock() = Some(Area {
        start,
        bytes: end - start,
        program: program.to_string_lossy().into_owned(),
    });
}

/// Where arguments and environment lie, by /proc/PID/stat: fields 48 to 51. `None` if they do not
/// follow each other.
fn area_of(stat: &str) -> Option<(usize, usize)> {
    // The second field may hold anything but ends with the last bracket.
    let (_, fields) = stat.rsplit_once(") ")?;
    let field = |number: usize| -> Option<usize> {
        let mut fields = fields.split_ascii_whitespace();
        fields.nth(number - 3)?.parse().ok()
    };
    let (start, end) = (field(48)?, field(49)?);
    let (environment, environment_end) = (field(50)?, field(51)?);
    (start < end && end == environment && environment <= environment_end)
        .then_some((start, environment_end))
}

/// Expands a template; `None` if it has unknown variables or unbalanced braces.
fn expand(template: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut title = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}')?;
        title.push_str(before);
        title.push_str(&variable(name)?);
        rest = behind;
    }
    title.push_str(rest);
    Some(title.trim_end().to_owned())
}

fn title(template: &str, config: &Config, program: &str) -> Option<String> {
    let path = |path: Option<&std::path::Path>| {
        let path = path
            .map(std::path::Path::as_os_str)
            .unwrap_or(OsStr::new(""));
        path.to_string_lossy().into_owned()
    };
    expand(template, |name| {
        Some(match name {
            "title" => program.to_owned(),
            "listen-addr" => {
                let address = config.network.bind.first().map_or("*", String::as_str);
                format!(
                    "{}:{}",
                    address.trim_start_matches('-'),
                    config.shown_port()
                )
            }
            "server-mode" if config.cluster => "[cluster]".into(),
            "server-mode" => String::new(),
            "port" => config.port.to_string(),
            "tls-port" => config.tls.port.to_string(),
            "unixsocket" => path(config.network.unix_socket.as_deref()),
            "config-file" => path(config.file.as_deref()),
            _ => return None,
        })
    })
}

/// Whether a template can be expanded.
pub fn check(template: &[u8]) -> Result<(), &'static str> {
    let known = [
        "title",
        "listen-addr",
        "server-mode",
        "port",
        "tls-port",
        "unixsocket",
        "config-file",
    ];
    let text = std::str::from_utf8(template).map_err(|_| INVALID)?;
    let expanded = expand(text, |name| known.contains(&name).then(String::new));
    expanded.map(|_| ()).ok_or(INVALID)
}

/// Shows the configured title, if titles are wanted.
pub fn show(config: &Config) {
    let area = AREA.lock();
    let Some(area) = area.as_ref().filter(|_| config.observation.set_title) else {
        return;
    };
    let Some(title) = title(&config.observation.title_template, config, &area.program) else {
        return;
    };
    // The last byte stays zero: the kernel stops there.
    let shown = title.as_bytes();
    let shown = shown.get(..area.bytes - 1).unwrap_or(shown);
    // SAFETY: the area is this process's own, writable for its life, and nothing refers to it any
    // more: the standard library copied the arguments, `prepare` moved the environment.
    unsafe {
        let start = area.start as *mut u8;
        std::ptr::write_bytes(start, 0, area.bytes);
        std::ptr::copy_nonoverlapping(shown.as_ptr(), start, shown.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_expanded_and_unknown_variables_refused() {
        let config = Config {
            port: 7000,
            ..Config::default()
        };
        let shown = |template: &str| title(template, &config, "redrock-server");
        let template = "{title} {listen-addr} {server-mode}";
        assert_eq!(shown(template).as_deref(), Some("redrock-server *:7000"));
        assert_eq!(
            shown("TEST {port}{tls-port}").as_deref(),
            Some("TEST 70000")
        );
        assert_eq!(shown("{nothing}"), None);
        assert_eq!(shown("{title"), None);
        assert_eq!(check(b"{invalid-var}"), Err(INVALID));
        assert_eq!(check(b"a {config-file}"), Ok(()));
    }

    #[test]
    fn the_area_reaches_to_the_end_of_the_environment() {
        let mut fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = |fields: &[String]| format!("1 (a ) b) {}", fields.join(" "));
        (fields[45], fields[46]) = ("100".into(), "140".into());
        (fields[47], fields[48]) = ("140".into(), "900".into());
        assert_eq!(area_of(&stat(&fields)), Some((100, 900)));
        fields[47] = "150".into();
        assert_eq!(area_of(&stat(&fields)), None);
        assert_eq!(area_of(""), None);
    }
}
