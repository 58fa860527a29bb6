//! Keeps: the files of the archive.
