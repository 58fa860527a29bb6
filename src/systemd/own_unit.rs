//! The systemd unit of this process.

/// File with the control groups of this process (cgroups(7)).
const CGROUP_FILE: &str = "/proc/self/cgroup";

/// Returns the name of the service that this process runs in, such as `cynosure@work.service`.
#[must_use]
pub fn own_unit() -> Option<String> {
    parse_unit(&fs_err::read_to_string(CGROUP_FILE).ok()?)
}

/// Parses the path in the unified hierarchy, where systemd creates a folder per unit. A service may
/// create further folders below its own.
fn parse_unit(cgroups: &str) -> Option<String> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_service_of_the_control_group() {
        assert_eq!(
            parse_unit("0::/system.slice/system-cynosure.slice/cynosure@work.service\n").as_deref(),
            Some("cynosure@work.service")
        );
        assert_eq!(
            parse_unit(
                "1:name=systemd:/x\n0::/user.slice/user@0.service/app.slice/a.service/sub\n"
            )
            .as_deref(),
            Some("a.service")
        );
        assert_eq!(parse_unit("0::/\n"), None);
        assert_eq!(parse_unit(""), None);
    }
}
