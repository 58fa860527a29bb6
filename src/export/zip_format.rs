//! Structures of a ZIP file: stored entries, with the ZIP64 extensions where they are needed.
//!
//! As in APPNOTE.TXT, sections 4.3 to 4.5. Names are in UTF-8. The time of an entry is in UTC, also
//! in the field that has no zone; a further field has it as Unix time.

use chrono::{DateTime, Datelike, Timelike};
use cynosure_engine::Timestamp;

const LOCAL_HEADER_SIGNATURE: u32 = 0x0403_4b50;
const DIRECTORY_HEADER_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const END64_LOCATOR_SIGNATURE: u32 = 0x0706_4b50;

/// Version that a reader needs: 2.0, or 4.5 for ZIP64.
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;

/// Version of the writer: 4.5, on Unix.
const MADE_BY: u16 = 3 << 8 | VERSION_ZIP64;

/// Flag: names are in UTF-8.
const UTF8_FLAG: u16 = 1 << 11;

/// Ids of the extra fields: sizes and offset with 64 bits, and the Unix time.
const ZIP64_FIELD: u16 = 0x0001;
const UNIX_TIME_FIELD: u16 = 0x5455;

/// Flag of the Unix time: the time of the last modification is present.
const MODIFIED_FLAG: u8 = 1;

/// File type and permissions of an entry: a plain file for its owner.
const UNIX_MODE: u32 = 0o100_600;

/// Bytes of the end of a ZIP64 file behind its first two fields.
const END64_REST_BYTES: u64 = 44;

/// Value of a field whose real value is in a ZIP64 field.
const IN_ZIP64: u32 = u32::MAX;

/// Entry of a ZIP file, stored without compression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ZipEntry {
    /// Path, with `/` between its levels; at most 65,535 bytes.
    pub(super) name: String,
    pub(super) crc: u32,
    /// In bytes.
    pub(super) size: u64,
    /// Position of its header in the file.
    pub(super) offset: u64,
    pub(super) time: Timestamp,
}

impl ZipEntry {
    /// Returns the header in front of the bytes.
    #[must_use]
    pub(super) fn local_header(&self) -> Vec<u8> {
        let mut extra = self.unix_time_field();
        if is_large(self.size) {
            push_u16(&mut extra, ZIP64_FIELD);
            push_u16(&mut extra, 16);
            // The size, and the size after compression.
            push_u64(&mut extra, self.size);
            push_u64(&mut extra, self.size);
        }
        let mut header = Vec::new();
        push_u32(&mut header, LOCAL_HEADER_SIGNATURE);
        self.push_common_fields(&mut header, is_large(self.size), extra.len());
        header.extend_from_slice(self.name.as_bytes());
        header.extend(extra);
        header
    }

    /// Returns the header in the central directory.
    #[must_use]
    pub(super) fn directory_header(&self) -> Vec<u8> {
        let mut large = Vec::new();
        if is_large(self.size) {
            push_u64(&mut large, self.size);
            push_u64(&mut large, self.size);
        }
        if is_large(self.offset) {
            push_u64(&mut large, self.offset);
        }
        let mut extra = self.unix_time_field();
        if !large.is_empty() {
            push_u16(&mut extra, ZIP64_FIELD);
            push_u16(&mut extra, to_u16(large.len() as u64));
            extra.extend_from_slice(&large);
        }
        let mut header = Vec::new();
        push_u32(&mut header, DIRECTORY_HEADER_SIGNATURE);
        push_u16(&mut header, MADE_BY);
        self.push_common_fields(&mut header, !large.is_empty(), extra.len());
        // No comment, the first disk, no internal attributes.
        [0; 3].into_iter().for_each(|zero| push_u16(&mut header, zero));
        push_u32(&mut header, UNIX_MODE << 16);
        push_u32(&mut header, to_u32(self.offset));
        header.extend_from_slice(self.name.as_bytes());
        header.extend(extra);
        header
    }

    /// Writes the fields that both headers have: from the version to the length of the extra field.
    fn push_common_fields(&self, header: &mut Vec<u8>, is_zip64: bool, extra_length: usize) {
        let (date, time) = dos_date_time(self.time);
        push_u16(header, if is_zip64 { VERSION_ZIP64 } else { VERSION });
        push_u16(header, UTF8_FLAG);
        // Stored, without compression.
        push_u16(header, 0);
        push_u16(header, time);
        push_u16(header, date);
        push_u32(header, self.crc);
        push_u32(header, to_u32(self.size));
        push_u32(header, to_u32(self.size));
        push_u16(header, to_u16(self.name.len() as u64));
        push_u16(header, to_u16(extra_length as u64));
    }

    /// Returns the extra field with the time; empty if it is out of range.
    fn unix_time_field(&self) -> Vec<u8> {
        let mut field = Vec::new();
        if let Ok(seconds) = i32::try_from(self.time.unix_seconds()) {
            push_u16(&mut field, UNIX_TIME_FIELD);
            push_u16(&mut field, 5);
            field.push(MODIFIED_FLAG);
            field.extend_from_slice(&seconds.to_le_bytes());
        }
        field
    }
}

/// Returns the end of a ZIP file, behind its central directory, which begins at `offset` and has
/// `length` bytes.
#[must_use]
pub(super) fn end_of_file(entries: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut end = Vec::new();
    let is_zip64 = entries >= u64::from(u16::MAX) || is_large(offset) || is_large(length);
    if is_zip64 {
        push_u32(&mut end, END64_SIGNATURE);
        push_u64(&mut end, END64_REST_BYTES);
        push_u16(&mut end, MADE_BY);
        push_u16(&mut end, VERSION_ZIP64);
        // Number of this disk, and of that with the directory.
        push_u32(&mut end, 0);
        push_u32(&mut end, 0);
        // Entries on this disk, and on all.
        push_u64(&mut end, entries);
        push_u64(&mut end, entries);
        push_u64(&mut end, length);
        push_u64(&mut end, offset);

        push_u32(&mut end, END64_LOCATOR_SIGNATURE);
        push_u32(&mut end, 0);
        push_u64(&mut end, offset.saturating_add(length));
        push_u32(&mut end, 1);
    }
    push_u32(&mut end, END_SIGNATURE);
    push_u16(&mut end, 0);
    push_u16(&mut end, 0);
    push_u16(&mut end, to_u16(entries));
    push_u16(&mut end, to_u16(entries));
    push_u32(&mut end, to_u32(length));
    push_u32(&mut end, to_u32(offset));
    // No comment.
    push_u16(&mut end, 0);
    end
}

/// True for a value that does not fit into a field of 32 bits.
fn is_large(value: u64) -> bool {
    value >= u64::from(IN_ZIP64)
}

fn to_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(IN_ZIP64)
}

fn to_u16(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Returns the date and the time in the format of DOS, with two seconds of precision, in UTC. It
/// begins in 1980 and ends in 2107.
fn dos_date_time(at: Timestamp) -> (u16, u16) {
    let first = (1 << 5 | 1, 0);
    let Some(time) = DateTime::from_timestamp(at.unix_seconds(), 0) else { return first };
    let Some(years) = time.year().checked_sub(1980).and_then(|years| u32::try_from(years).ok())
    else {
        return first;
    };
    let date = years.min(127) << 9 | time.month() << 5 | time.day();
    let time = time.hour() << 11 | time.minute() << 5 | (time.second() / 2);
    (to_u16(u64::from(date)), to_u16(u64::from(time)))
}

fn push_u16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn push_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn push_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR_GIB: u64 = 1 << 32;

    fn entry(size: u64, offset: u64) -> ZipEntry {
        // 2026-03-07 09:05:03 UTC.
        let time = Timestamp(1_772_874_303_456);
        ZipEntry { name: "é/m.eml".to_owned(), crc: 0x1234_5678, size, offset, time }
    }

    fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn a_small_entry_has_no_zip64_fields() {
        let (local, directory) = (entry(5, 7).local_header(), entry(5, 7).directory_header());

        assert_eq!(local.len(), 30 + 8 + 9);
        assert_eq!((u32_at(&local, 0), u16_at(&local, 4)), (0x0403_4b50, 20));
        assert_eq!((u16_at(&local, 6), u16_at(&local, 8)), (0x0800, 0), "UTF-8, stored");
        let date = (2026 - 1980) << 9 | 3 << 5 | 7;
        let time = 9 << 11 | 5 << 5 | 1;
        assert_eq!((u16_at(&local, 10), u16_at(&local, 12)), (time, date));
        assert_eq!(u32_at(&local, 14), 0x1234_5678);
        assert_eq!((u32_at(&local, 18), u32_at(&local, 22)), (5, 5));
        assert_eq!((u16_at(&local, 26), u16_at(&local, 28)), (8, 9));
        assert_eq!(&local[30..38], "é/m.eml".as_bytes());
        assert_eq!(u32_at(&local, 43), 1_772_874_303);

        assert_eq!(directory.len(), 46 + 8 + 9);
        assert_eq!(directory[6..32], local[4..30], "the common fields");
        assert_eq!(u32_at(&directory, 38), 0o100_600 << 16);
        assert_eq!(u32_at(&directory, 42), 7);
    }

    #[test]
    fn a_large_entry_has_its_sizes_and_offset_in_zip64_fields() {
        let large = entry(FOUR_GIB, FOUR_GIB + 1);
        let (local, directory) = (large.local_header(), large.directory_header());

        assert_eq!((u16_at(&local, 4), u32_at(&local, 18)), (45, u32::MAX));
        let extra = &local[30 + 8 + 9..];
        assert_eq!((u16_at(extra, 0), u16_at(extra, 2)), (1, 16));
        assert_eq!((u64_at(extra, 4), u64_at(extra, 12), extra.len()), (FOUR_GIB, FOUR_GIB, 20));
        assert_eq!(u32_at(&directory, 42), u32::MAX);
        let extra = &directory[46 + 8 + 9..];
        assert_eq!((u16_at(extra, 2), u64_at(extra, 4)), (24, FOUR_GIB));
        assert_eq!(u64_at(extra, 20), FOUR_GIB + 1);

        let directory = entry(5, u64::from(u32::MAX)).directory_header();
        let extra = &directory[46 + 8 + 9..];
        assert_eq!((u32_at(&directory, 20), u64_at(extra, 4)), (5, u64::from(u32::MAX)));
    }

    #[test]
    fn the_end_of_many_entries_has_a_locator() {
        let small = end_of_file(65_534, 100, 200);
        assert_eq!((small.len(), u16_at(&small, 10), u32_at(&small, 16)), (22, 65_534, 100));

        for (entries, offset) in [(65_535, 100), (3, FOUR_GIB)] {
            let end = end_of_file(entries, offset, 200);
            assert_eq!((end.len(), u32_at(&end, 0)), (56 + 20 + 22, END64_SIGNATURE));
            assert_eq!((u64_at(&end, 24), u64_at(&end, 32)), (entries, entries));
            assert_eq!((u64_at(&end, 40), u64_at(&end, 48)), (200, offset));
            assert_eq!((u32_at(&end, 56), u64_at(&end, 64)), (0x0706_4b50, offset + 200));
            assert_eq!(u16_at(&end, 76 + 10), to_u16(entries));
        }
    }

    #[test]
    fn a_time_outside_the_range_is_the_nearest_or_the_first() {
        assert_eq!(dos_date_time(Timestamp(0)), (33, 0));
        assert_eq!(dos_date_time(Timestamp(i64::MIN)), (33, 0));
        let (date, _) = dos_date_time(Timestamp(7_000_000_000_000));
        assert_eq!(date >> 9, 127);
    }
}
