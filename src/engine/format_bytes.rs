//! Formatting of byte counts for people.

/// Formats a byte count with decimal units, as used for disks: `812 bytes`, `12.3 MB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn format_bytes(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let mut size = bytes as f64;
    let mut unit = None;
    for larger in units {
        // A value that would be shown as 1000.0 belongs to the next unit.
        if size < 999.95 {
            break;
        }
        (size, unit) = (size / 1000.0, Some(larger));
    }
    match unit {
        Some(unit) => format!("{size:.1} {unit}"),
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
    }
}
