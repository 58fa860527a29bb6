//! What is around the sources: the ways out, the machine, and what the unit complains of.

use crate::engine::health::{
    Area, Check, DiskSeen, Errors, Facts, Known, Pool, Thresholds, many, or_well, percent,
};
use crate::engine::watch::Level;
use crate::engine::{format_bytes, format_duration, sanitize_line};

/// The pool of proxies; nothing where there is none, or nobody who uses it.
pub(super) fn proxies(pool: Option<&Known<Option<Pool>>>, thresholds: &Thresholds) -> Vec<Check> {
    let pool = match pool {
        None | Some(Ok(None)) => return Vec::new(),
        Some(Ok(Some(pool))) => *pool,
        Some(Err(why)) => return vec![Check::unknown(Area::Proxies, why)],
    };
    let Pool { total, healthy, doubted, dead, cooling, mean_latency } = pool;
    // A pool that has no more than that is as well as it can be.
    let wanted = thresholds.proxies.min(total).max(1);
    let latency = mean_latency.map(|mean| format!(", {} on average", format_duration(mean)));
    let latency = latency.unwrap_or_default();
    let figure = format!("{healthy} of {total}");
    let threshold = format!("fewer than {wanted}");
    let message = format!(
        "{healthy} of {total} healthy, {doubted} in doubt, {dead} dead, {cooling} of them in \
         cooldown{latency}"
    );
    let check = if healthy == 0 {
        Check::new(Area::Proxies, "none_healthy", Level::Critical, message)
    } else if healthy < wanted {
        Check::new(Area::Proxies, "too_few_healthy", Level::Critical, message)
    } else {
        Check::new(Area::Proxies, "enough", Level::Healthy, message)
    };
    let check = check.measured(figure, threshold);
    vec![if healthy < wanted {
        check.advise("see which fail: `cynosure doctor`; repair them, or change `proxy.pool`")
    } else {
        check
    }]
}

/// Processor, memory, and each disk that we write to. One that cannot be measured hides no other.
pub(super) fn system(facts: &Facts, thresholds: &Thresholds) -> Vec<Check> {
    let unmeasured = facts.unmeasured.iter();
    let unmeasured =
        unmeasured.map(|(folder, why)| Check::unknown(Area::System, why).about(folder));
    let system = match &facts.system {
        Ok(system) => system,
        Err(why) => {
            return std::iter::once(Check::unknown(Area::System, why)).chain(unmeasured).collect();
        }
    };
    let cpu = share("processor", system.cpu, thresholds.cpu, "cpu_busy");
    let memory = share("memory", system.memory, thresholds.memory, "memory_low");
    let mut checks = vec![cpu, memory];
    checks.extend(system.disks.iter().flat_map(|disk| of_disk(disk, thresholds)));
    checks.extend(unmeasured);
    checks
}

/// Each archive that a source cannot use. Nothing where all are as they should be.
pub(super) fn archives(facts: &Facts) -> Vec<Check> {
    let check = |(source, why): &(String, String)| {
        Check::new(Area::System, "archive_mismatch", Level::Critical, sanitize_line(why))
            .about(format!("archive of {source}"))
            .advise("mount it, or do what the message says; nothing is written until then")
    };
    facts.archives.iter().map(check).collect()
}

fn share(what: &str, used: Option<f64>, limit: f64, finding: &str) -> Check {
    let Some(used) = used else {
        let why = "the kernel does not say how much is used";
        return Check::unknown(Area::System, why).about(what);
    };
    let check = if used > limit {
        Check::new(Area::System, finding, Level::Warning, "hardly any is left")
            .advise("see what takes it: `top`")
    } else {
        Check::new(Area::System, "enough", Level::Healthy, "there is enough")
    };
    let figure = format!("{} used", percent(used));
    check.about(what).measured(figure, format!("more than {}", percent(limit)))
}

fn of_disk(disk: &DiskSeen, thresholds: &Thresholds) -> Vec<Check> {
    let advice = "make room, or move `archive.dir` to a larger disk";
    let figure = format!("{} used, {} free", percent(disk.used), format_bytes(disk.free));
    let (critical, warning) = (thresholds.disk_critical, thresholds.disk_warning);
    let urgent = format!(
        "more than {}, or less than {} free",
        percent(critical),
        format_bytes(thresholds.disk_free)
    );
    let new = |finding, level, message: &str| {
        Check::new(Area::System, finding, level, message).about(&disk.path)
    };
    let check = if disk.used > critical || disk.free < thresholds.disk_free {
        new("disk_full", Level::Critical, "its disk is nearly full")
            .measured(figure, urgent)
            .advise(advice)
    } else if disk.used > warning {
        new("disk_full", Level::Warning, "its disk is filling up")
            .measured(figure, format!("more than {}", percent(warning)))
            .advise(advice)
    } else {
        new("enough", Level::Healthy, "its disk has room")
            .measured(figure, format!("more than {}", percent(warning)))
    };
    let inodes = disk.inodes.filter(|used| *used > thresholds.inodes).map(|used| {
        new("inodes_low", Level::Critical, "its disk can hold few more files")
            .measured(
                format!("{} of its inodes used", percent(used)),
                format!("more than {}", percent(thresholds.inodes)),
            )
            .advise("remove small files, or make a filesystem with more inodes")
    });
    std::iter::once(check).chain(inodes).collect()
}

/// What each unit complained of lately; nothing where there is no unit.
pub(super) fn journal(facts: &Facts, thresholds: &Thresholds) -> Vec<Check> {
    let units = match &facts.journal {
        None => return Vec::new(),
        Some(Ok(units)) => units,
        Some(Err(why)) => return vec![Check::unknown(Area::Journal, why).about(&facts.unit)],
    };
    let complains = |of_unit: &&Errors| of_unit.count >= thresholds.journal_errors;
    let amiss = units.iter().filter(complains).map(|Errors { unit, count, newest }| {
        let newest = newest.as_deref().map(|text| format!(", the last: {}", sanitize_line(text)));
        let message = format!("it complains{}", newest.unwrap_or_default());
        Check::new(Area::Journal, "errors", Level::Warning, message)
            .about(unit)
            .measured(in_window(*count, thresholds), most_errors(thresholds))
            .advise(format!("read them: `journalctl -u {unit} -p err -n 50`"))
    });
    or_well(amiss.collect(), || {
        let message = "it has little to complain of";
        let most = units.iter().max_by_key(|of_unit| of_unit.count);
        let (unit, count) = most.map_or((&facts.unit, 0), |of_unit| (&of_unit.unit, of_unit.count));
        Check::new(Area::Journal, "quiet", Level::Healthy, message)
            .about(unit)
            .measured(in_window(count, thresholds), most_errors(thresholds))
    })
}

fn in_window(count: u32, thresholds: &Thresholds) -> String {
    let errors = many(usize::try_from(count).unwrap_or(usize::MAX), "error");
    format!("{errors} in {}", format_duration(thresholds.journal_window))
}

fn most_errors(thresholds: &Thresholds) -> String {
    format!("{} or more", thresholds.journal_errors)
}
