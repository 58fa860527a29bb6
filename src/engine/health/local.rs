//! What is around the sources: the ways out, the machine, and what the unit complains of.

use crate::engine::health::{
    Area, Check, DiskSeen, Errors, Facts, Known, Pool, System, Thresholds, many, or_well, percent,
};
use crate::engine::watch::Level;
use crate::engine::{printable, size, span};

/// The pool of proxies; nothing where there is none.
pub(super) fn proxies(pool: Option<&Known<Pool>>, thresholds: &Thresholds) -> Vec<Check> {
    let pool = match pool {
        None => return Vec::new(),
        Some(Ok(pool)) => *pool,
        Some(Err(why)) => return vec![Check::unknown(Area::Proxies, why)],
    };
    let Pool { total, healthy, doubted, dead, mean_latency } = pool;
    // A pool that has no more than that is as well as it can be.
    let wanted = thresholds.proxies.min(total).max(1);
    let latency = mean_latency.map(|mean| format!(", {} on average", span(mean)));
    let latency = latency.unwrap_or_default();
    let figure = format!("{healthy} of {total}");
    let threshold = format!("fewer than {wanted}");
    let message = format!("{healthy} healthy, {doubted} in doubt, {dead} in cooldown{latency}");
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

/// Processor, memory, and each disk that we write to.
pub(super) fn system(system: &Known<System>, thresholds: &Thresholds) -> Vec<Check> {
    let system = match system {
        Ok(system) => system,
        Err(why) => return vec![Check::unknown(Area::System, why)],
    };
    let cpu = share("processor", system.cpu, thresholds.cpu, "cpu_busy");
    let memory = share("memory", system.memory, thresholds.memory, "memory_low");
    let mut checks = vec![cpu, memory];
    checks.extend(system.disks.iter().flat_map(|disk| of_disk(disk, thresholds)));
    checks
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
    let figure = format!("{} used, {} free", percent(disk.used), size(disk.free));
    let (critical, warning) = (thresholds.disk_critical, thresholds.disk_warning);
    let urgent = format!(
        "more than {}, or less than {} free",
        percent(critical),
        size(thresholds.disk_free)
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

/// What the unit complained of lately; nothing where there is no unit.
pub(super) fn journal(facts: &Facts, thresholds: &Thresholds) -> Vec<Check> {
    let Some(journal) = &facts.journal else { return Vec::new() };
    let Errors { count, newest } = match journal {
        Ok(errors) => errors,
        Err(why) => return vec![Check::unknown(Area::Journal, why).about(&facts.unit)],
    };
    let window = span(thresholds.journal_window);
    let figure =
        format!("{} in {window}", many(usize::try_from(*count).unwrap_or(usize::MAX), "error"));
    let threshold = format!("{} or more", thresholds.journal_errors);
    let amiss = (*count >= thresholds.journal_errors).then(|| {
        let newest = newest.as_deref().map(|text| format!(", the last: {}", printable(text)));
        let message = format!("it complains{}", newest.unwrap_or_default());
        Check::new(Area::Journal, "errors", Level::Warning, message)
            .advise(format!("read them: `journalctl -u {} -p err -n 50`", facts.unit))
    });
    let checks = or_well(amiss.into_iter().collect(), || {
        Check::new(Area::Journal, "quiet", Level::Healthy, "it has little to complain of")
    });
    let checks = checks.into_iter();
    checks.map(|check| check.about(&facts.unit).measured(&*figure, &*threshold)).collect()
}
