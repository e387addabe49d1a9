//! Data sets for the fake server: hot records and a RocksDB checkpoint of cold ones.

use std::path::Path;

use redrock_proto::model::record::{Access, RecordHeader};
use redrock_rdb::file::{Item, RdbReader, ReaderOptions};
use rocksdb::{DB, Options};

/// A key with its value in the superset form.
#[derive(Debug, Clone)]
pub struct Record {
    pub database: u32,
    pub key: Vec<u8>,
    pub object_type: u8,
    pub payload: Vec<u8>,
    pub expires: Option<i64>,
}

impl Record {
    pub fn header(&self) -> RecordHeader<'_> {
        RecordHeader {
            database: self.database,
            expires_unix_ms: self.expires,
            access: Access::Unknown,
            object_type: self.object_type,
            key: &self.key,
        }
    }

    /// A plain string.
    pub fn string(database: u32, key: &str, value: &[u8]) -> Record {
        let mut payload = Vec::new();
        redrock_rdb::object::encode::string(&mut payload, value);
        Record {
            database,
            key: key.as_bytes().to_vec(),
            object_type: 0,
            payload,
            expires: None,
        }
    }
}

/// What a file holds.
pub fn read_rdb(bytes: &[u8]) -> Vec<Record> {
    let mut reader = RdbReader::new(bytes, ReaderOptions::default()).unwrap();
    let (mut database, mut records) = (0, Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::SelectDb(number) => database = number as u32,
            Item::Entry(entry) => records.push(Record {
                database,
                key: entry.key,
                object_type: entry.object_type,
                payload: entry.payload,
                expires: entry.expire_at_ms,
            }),
            _ => {}
        }
    }
    records
}

/// The generation under which the fake keeps a database.
pub fn generation(database: u32) -> u32 {
    database * 3 + 7
}

/// Any order of keys will do; a few positions are shared.
pub fn tier_key(record: &Record) -> Vec<u8> {
    let position = u64::from(redrock_rdb::crc64::crc64(0, &record.key) as u32 & 0xffff);
    let mut key = generation(record.database).to_be_bytes().to_vec();
    key.extend_from_slice(&position.to_be_bytes()[2..]);
    key.extend_from_slice(&record.key);
    key
}

/// Writes a tier with `cold` and a neighbour's records, and makes a checkpoint of it.
pub fn make_checkpoint(folder: &Path, cold: &[Record], checkpoint: &Path) {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(16 << 10);
    let db = DB::open_cf(&options, folder, ["default", "expires", "expire_index"]).unwrap();
    let mut without_wal = rocksdb::WriteOptions::default();
    without_wal.disable_wal(true);
    let expires = db.cf_handle("expires").unwrap();
    let put = |record: &Record, key: Vec<u8>| {
        let mut value = vec![record.object_type];
        value.extend_from_slice(&record.payload);
        db.put_opt(&key, &value, &without_wal).unwrap();
        if let Some(ms) = record.expires {
            db.put_cf_opt(expires, &key, ms.to_be_bytes(), &without_wal)
                .unwrap();
        }
    };
    for record in cold {
        put(record, tier_key(record));
    }
    // Flushed databases linger beside the living ones: they must not be read.
    let stranger = Record {
        expires: Some(1),
        ..Record::string(0, "stranger", b"x")
    };
    for generation in [6_u32, 8, 9] {
        let mut key = generation.to_be_bytes().to_vec();
        key.extend_from_slice(b"\0\0\0\0\0\0stranger");
        put(&stranger, key);
    }
    rocksdb::checkpoint::Checkpoint::new(&db)
        .unwrap()
        .create_checkpoint(checkpoint)
        .unwrap();
}
