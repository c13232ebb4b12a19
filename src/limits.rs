//! Every bound of the framework, in one place: its name, unit, default and reason.
//!
//! What a user may change is a field of [`Limits`], set on
//! [`Server::limits`](crate::Server::limits). The rest are constants.

#[cfg(feature = "db")]
mod databases;

#[cfg(feature = "db")]
pub(crate) use databases::*;

/// The bounds of a server. Every one is on by default.
///
/// ```
/// use soloist::Limits;
/// let limits = Limits { body_bytes_max: 64 * 1024, idle_ms_max: 10_000, ..Limits::default() };
/// assert!(limits.head_bytes_max > limits.target_bytes_max);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request target; longer: 414. Default 8,000, what RFC 9112 section 3 asks for.
    pub target_bytes_max: usize,
    /// Bytes of a whole head, at most 65,535; more: 431. Default 16 KiB.
    pub head_bytes_max: usize,
    /// Header fields of a head, at most 128; more: 431. Default 100.
    pub fields_max: usize,
    /// Bytes that `body()` buffers; more: 413. Default 2 MiB.
    pub body_bytes_max: u64,
    /// Bytes of a body read in pieces; more: 413. Default 100 MB.
    pub stream_bytes_max: u64,
    /// From a head's first byte to its last; longer: 408. Default 10 s.
    pub head_ms_max: u64,
    /// Between two reads of a body; longer: 408. Default 30 s.
    pub body_stall_ms_max: u64,
    /// Between requests, and before the first one; longer: closed. Default 75 s.
    pub idle_ms_max: u64,
    /// A send that moves no byte for so long closes its connection, and so do bytes that the kernel
    /// holds for a peer which takes none, 2 s later (TCP_USER_TIMEOUT). Default 30 s.
    pub write_stall_ms_max: u64,
    /// A handler that has not begun its answer by then gets 503; 0 is no deadline. Default 0.
    pub request_ms_max: u64,
    /// Connections of one shard; more are refused with 503. Default 65,536.
    pub connections_max: usize,
    /// Background tasks of one shard, connections not among them; more are not spawned, which is
    /// logged and counted. Default 65,536.
    pub tasks_max: usize,
    /// Requests of one connection answered before others get their turn. Default 32.
    pub pipeline_max: usize,
    /// From the stop signal until what is still open is cut off. Default 30 s.
    pub grace_ms_max: u64,
    /// WebSockets of one shard; more are refused with 503. Default 10,000.
    pub sockets_max: usize,
    /// WebSockets of one client address on one shard; more are refused with 429. 0 is no bound.
    /// Default 0: behind a proxy that is not [trusted](crate::App::trust) all clients are one.
    pub sockets_of_client_max: usize,
    /// Handshakes of WebSockets that one shard answers a second; more are refused with 503. 0 is
    /// no bound. Default 0.
    pub handshakes_per_s_max: usize,
    /// Threads of the blocking pool, for the whole process. Default 16.
    pub blocking_threads_max: usize,
    /// Jobs that may wait for a blocking thread; more are refused. Default 1,024.
    pub blocking_jobs_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            target_bytes_max: 8_000,
            head_bytes_max: 16 * 1024,
            fields_max: 100,
            body_bytes_max: 2 * 1024 * 1024,
            stream_bytes_max: 100_000_000,
            head_ms_max: 10_000,
            body_stall_ms_max: 30_000,
            idle_ms_max: 75_000,
            write_stall_ms_max: 30_000,
            request_ms_max: 0,
            connections_max: 65_536,
            tasks_max: 65_536,
            pipeline_max: 32,
            grace_ms_max: 30_000,
            sockets_max: 10_000,
            sockets_of_client_max: 0,
            handshakes_per_s_max: 0,
            blocking_threads_max: 16,
            blocking_jobs_max: 1_024,
        }
    }
}

impl Limits {
    /// What is wrong with these bounds, in words for the one who set them.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rules = [
            (self.head_bytes_max <= HEAD_BYTES_CEILING, "head_bytes_max: at most 65,535"),
            (self.target_bytes_max + 32 <= self.head_bytes_max, "target_bytes_max: does not fit"),
            ((1..=FIELDS_CEILING).contains(&self.fields_max), "fields_max: 1 to 128"),
            (self.body_bytes_max <= self.stream_bytes_max, "body_bytes_max: over stream_bytes_max"),
            (self.connections_max >= 1, "connections_max: at least 1"),
            (self.tasks_max >= 1, "tasks_max: at least 1"),
            (self.pipeline_max >= 1, "pipeline_max: at least 1"),
            (self.blocking_threads_max >= 1, "blocking_threads_max: at least 1"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(format!("limits: {rule}")),
            None => Ok(()),
        }
    }
}

/// Spans of a head are 16-bit offsets.
pub(crate) const HEAD_BYTES_CEILING: usize = u16::MAX as usize;
/// Fields are parsed into an array on the stack.
pub(crate) const FIELDS_CEILING: usize = 128;

/// Unread bytes after which a connection's receive pauses.
pub(crate) const INBOX_BYTES_MAX: usize = 64 * 1024;
/// What an inbox above that grows by: with all receive buffers of a turn, which the kernel has
/// filled before it hears that they are enough.
pub(crate) const INBOX_STEP_BYTES: usize = 256 * 1024;
/// Unsent bytes above which `write` waits and no further pipelined request starts: 64 KiB, and what
/// frames them in chunks of 4 KiB or more.
pub(crate) const OUTBOX_BYTES_MAX: usize = 64 * 1024 + 512;
/// The same for a stream whose client takes [`FAST_BYTES_A_MS`]: 256 KiB and their frames.
pub(crate) const STREAM_BYTES_MAX: usize = 256 * 1024 + 2048;
/// A fast client: so many bytes a millisecond since its request came (16 MB/s) ...
pub(crate) const FAST_BYTES_A_MS: u64 = 16 * 1024;
/// ... once so many are sent: the kernel's buffers may hold the first ones of a slow client.
pub(crate) const FAST_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// A streamed write from this size on takes a buffer of `OUTBOX_BYTES_MAX` at once.
pub(crate) const LARGE_WRITE_BYTES: usize = 4 * 1024;
/// An unread body is drained up to here so that the connection may go on.
pub(crate) const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// How long a closing connection waits for the peer's FIN (RFC 9112 section 9.6).
pub(crate) const LINGER_MS_MAX: u64 = 2_000;
/// How long an idle connection stays readable once the server drains.
pub(crate) const DRAIN_IDLE_MS_MAX: u64 = 250;

/// A chunk-size line with its extensions.
pub(crate) const CHUNK_LINE_BYTES_MAX: usize = 1_024;
/// The trailer section of one body.
pub(crate) const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Fields of a trailer section.
pub(crate) const TRAILERS_MAX: usize = 32;

/// Entries of an Accept list, or of one of its kin, that are looked at: browsers send about ten.
pub(crate) const ACCEPT_ENTRIES_MAX: usize = 64;
/// Fields of a form or a query that is read into a type.
pub(crate) const FORM_FIELDS_MAX: usize = 1_000;
/// Bytes of a form that is read whole which are kept in memory; files beyond go to disk.
#[cfg(feature = "files")]
pub(crate) const FORM_MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A file up to this size is kept in memory if there is room; a larger one may take a quarter of
/// what is left.
#[cfg(feature = "files")]
pub(crate) const FORM_SPILL_BYTES_MIN: u64 = 1024 * 1024;
/// One file of such a form: the body's own bound comes first.
#[cfg(feature = "files")]
pub(crate) const FORM_FILE_BYTES_MAX: u64 = u64::MAX;
/// Parts of a multipart form.
pub(crate) const PARTS_MAX: usize = 1_000;
/// The head of a part.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 8 * 1024;
/// The name of a part, and its file name.
pub(crate) const PART_NAME_BYTES_MAX: usize = 1_024;
/// A part that is read whole, unless the handler says otherwise.
pub(crate) const PART_BYTES_MAX: u64 = 1024 * 1024;
/// A line that is read one by one, without its end, unless the handler says otherwise.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;
/// A JSON value of many that are read one by one, unless the handler says otherwise.
pub(crate) const ITEM_BYTES_MAX: usize = 1024 * 1024;
/// Arrays and objects in each other within one such value.
pub(crate) const JSON_DEPTH_MAX: usize = 128;
/// The fields of a record of comma-separated values, unless the handler says otherwise.
#[cfg(feature = "csv")]
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024;
/// How many there are.
#[cfg(feature = "csv")]
pub(crate) const RECORD_FIELDS_MAX: usize = 1_024;
/// Memory for the bytes of a first record.
#[cfg(feature = "csv")]
pub(crate) const RECORD_BYTES_FIRST: usize = 1_024;
/// Memory for the ends of its fields.
#[cfg(feature = "csv")]
pub(crate) const RECORD_FIELDS_FIRST: usize = 32;
/// Characters of the client's own text in a message about its mistake.
pub(crate) const MISTAKE_CHARS_MAX: usize = 200;
/// Hops of a chain of proxies that are looked at.
pub(crate) const FORWARDED_HOPS_MAX: usize = 32;
/// Cookies of a request that are looked at: browsers keep at most 180 of a domain.
pub(crate) const COOKIES_MAX: usize = 200;
/// Name and value of a cookie that is set: browsers drop one that is longer (RFC 6265bis).
pub(crate) const COOKIE_BYTES_MAX: usize = 4_096;

/// First chunk of a request's arena.
pub(crate) const ARENA_BYTES_FIRST: usize = 8 * 1024;
/// An arena larger than this is given back when its request ends.
pub(crate) const ARENA_BYTES_KEEP_MAX: usize = 64 * 1024;
/// A buffer with a larger capacity is freed rather than kept.
pub(crate) const BUFFER_BYTES_KEEP_MAX: usize = OUTBOX_BYTES_MAX;
/// A whole body larger than this goes to the kernel in its own buffer, as a send behind that of its
/// head; a smaller one is copied behind the head, into a buffer that is kept.
pub(crate) const BODY_COPY_BYTES_MAX: usize = BUFFER_BYTES_KEEP_MAX;
/// Silence after which an event stream sends a comment, unless the handler says otherwise.
pub(crate) const EVENTS_KEEP_ALIVE_MS: u64 = 15_000;
/// Rows of a JSON array are gathered up to here before they are written.
pub(crate) const ROWS_BYTES_MAX: usize = 16 * 1024;
/// Buffers and request cores that a shard keeps for reuse.
pub(crate) const SPARES_MAX: usize = 128;
/// Buffers of `STREAM_BYTES_MAX` that a shard keeps.
pub(crate) const LARGE_SPARES_MAX: usize = 8;

/// Ranges of one request; who asks for more gets everything.
#[cfg(feature = "files")]
pub(crate) const RANGES_MAX: usize = 32;
/// Ranges with a smaller gap become one: what stands between two parts of an answer is longer.
#[cfg(feature = "files")]
pub(crate) const RANGE_GAP_BYTES_MAX: u64 = 80;
/// Files that a shard holds open for those who ask again.
#[cfg(feature = "files")]
pub(crate) const FILES_OPEN_MAX: usize = 512;
/// How long what is known of a file is taken for granted.
#[cfg(feature = "files")]
pub(crate) const FILES_FRESH_MS: u64 = 1_000;
/// A file up to this size is mapped while it is open.
#[cfg(feature = "files")]
pub(crate) const FILE_MAPPED_BYTES_MAX: u64 = 1024 * 1024;
/// So many bytes of it leave mapped, in one send with their head. More cost more to copy than the
/// kernel's moving them does.
#[cfg(feature = "files")]
pub(crate) const FILE_SMALL_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of a larger file that are read into the answer rather than moved by the kernel.
#[cfg(feature = "files")]
pub(crate) const FILE_COPY_BYTES_MAX: u64 = 32 * 1024;
/// What the kernel moves before the others on the shard have their turn.
#[cfg(feature = "files")]
pub(crate) const FILE_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// How long one answer's windows may go on before the others have their turn.
#[cfg(feature = "files")]
pub(crate) const FILE_TURN_NS_MAX: u64 = 100_000;
/// One page of so many bytes is looked for in memory before they are moved.
#[cfg(feature = "files")]
pub(crate) const FILE_PROBE_BYTES: u64 = 512 * 1024;
/// A file up to this size is looked for in memory as a whole, and then not for a while.
#[cfg(feature = "files")]
pub(crate) const FILE_PROBED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long pages that were found in memory are taken to be there: those in use stay.
#[cfg(feature = "files")]
pub(crate) const FILE_RESIDENT_MS: u64 = 100;
/// Bytes in a buffer of their own that are written from where they lie; fewer are gathered.
#[cfg(feature = "files")]
pub(crate) const APPEND_OWNED_BYTES_MIN: usize = 64 * 1024;
/// Bytes of an upload by tus, unless its options say otherwise.
#[cfg(feature = "files")]
pub(crate) const TUS_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Seconds until an unfinished upload by tus is removed, unless its options say otherwise.
#[cfg(feature = "files")]
pub(crate) const TUS_EXPIRES_S: u64 = 24 * 60 * 60;
/// What its options may say at most: a hundred years.
#[cfg(feature = "files")]
pub(crate) const TUS_EXPIRES_S_MAX: u64 = 100 * 365 * 24 * 60 * 60;
/// Between two looks of a shard for uploads that have expired.
#[cfg(feature = "files")]
pub(crate) const TUS_SWEEP_MS: u64 = 60_000;
/// Pairs in the metadata of an upload by tus.
#[cfg(feature = "files")]
pub(crate) const TUS_METADATA_MAX: usize = 100;
/// Bytes of what is noted of an upload by tus: a head holds no more metadata.
#[cfg(feature = "files")]
pub(crate) const TUS_INFO_BYTES_MAX: u64 = 256 * 1024;
/// Entries of a directory that its page shows.
#[cfg(feature = "files")]
pub(crate) const LISTING_ENTRIES_MAX: usize = 10_000;

/// What an entry of a cache takes beyond its key and its value.
#[cfg(feature = "cache")]
pub(crate) const CACHE_ENTRY_BYTES: usize = 64;
/// Patterns of a cache that are looked at after a hit; of more, the oldest becomes "everything".
#[cfg(feature = "cache")]
pub(crate) const CACHE_BANS_MAX: usize = 64;
/// Words about entries that wait for a shard to hear them; more become one about everything.
#[cfg(feature = "cache")]
pub(crate) const CACHE_WORDS_MAX: usize = 10_000;
/// How long an entry of a cache lives at most, unless it lives for ever: a hundred years.
#[cfg(feature = "cache")]
pub(crate) const CACHE_LIFE_MS_MAX: u64 = 100 * 365 * 86_400_000;
/// How long a dead entry of a cache may lie about.
#[cfg(feature = "cache")]
pub(crate) const CACHE_SWEEP_MS: u64 = 1_000;

/// Words of a cache that are told to a remote store at once ...
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_BATCH_MAX: usize = 64;
/// ... and that wait to be: more become one about everything.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_WORDS_MAX: usize = 10_000;
/// Prefixes of a key there; what lies deeper goes with them.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_DEPTH_MAX: usize = 16;
/// How long a word about one key is kept there: longer than a load takes.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_KEY_STAMP_MS: u64 = 120_000;
/// Loads that took longer are not stored there: the words of meanwhile may be forgotten.
#[cfg(feature = "cache")]
pub(crate) const CACHE_FAR_LOAD_MS_MAX: u64 = 60_000;
/// How long a value is kept there at most: 7 days ...
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_VALUE_MS_MAX: u64 = 7 * 86_400_000;
/// ... and a word about many of them.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_STAMP_MS: u64 = 8 * 86_400_000;
/// The longest pause before a word is told again.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const FAR_RETRY_MS_MAX: u64 = 1_000;

/// How long a call to a remote store may take, unless its options say otherwise.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_CALL_MS_MAX: u64 = 100;
/// How long the making of a connection to it may take, unless they say otherwise.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_CONNECT_MS_MAX: u64 = 1_000;
/// Calls of a shard to it that are under way, unless they say otherwise.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_CALLS_MAX: usize = 1_024;
/// Keys of one command, or of those that are sent before the first is answered.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_KEYS_MAX: usize = 512;
/// After such a silence a server is asked whether it is there; half of it later it is not.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_PING_MS: u64 = 2_000;
/// The longest pause after the first connection that cannot be made ...
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_BACKOFF_MS_MIN: u64 = 50;
/// ... and after the last: it doubles in between.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const REMOTE_BACKOFF_MS_MAX: u64 = 2_000;
/// Calls that fail until calls are refused, unless the options say otherwise ...
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const BREAKER_FAILURES: u32 = 5;
/// ... within so long, ...
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const BREAKER_WINDOW_MS: u64 = 1_000;
/// ... and the first and the longest pause until one may try.
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const BREAKER_PAUSE_MS_MIN: u64 = 100;
#[cfg(any(feature = "memcached", feature = "redis"))]
pub(crate) const BREAKER_PAUSE_MS_MAX: u64 = 5_000;
/// Words of changes in Redis that wait to be told; with more, everything may have changed.
#[cfg(feature = "redis")]
pub(crate) const REMOTE_HEARD_MAX: usize = 1_024;
/// A key in Redis, with its prefix.
#[cfg(feature = "redis")]
pub(crate) const REDIS_KEY_BYTES_MAX: usize = 8 * 1024;
/// A value in Redis, unless the options say otherwise.
#[cfg(feature = "redis")]
pub(crate) const REDIS_VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A key in memcached, as it is sent: its own bound.
#[cfg(feature = "memcached")]
pub(crate) const MEMCACHED_KEY_BYTES_MAX: usize = 250;
/// A value in memcached, unless the options say otherwise: it takes 1 MiB with all that belongs to
/// it.
#[cfg(feature = "memcached")]
pub(crate) const MEMCACHED_VALUE_BYTES_MAX: usize = 1023 * 1024;
/// A line of its answers.
#[cfg(feature = "memcached")]
pub(crate) const MEMCACHED_LINE_BYTES_MAX: usize = 2 * 1024;
/// Bytes that wait to be sent to it.
#[cfg(feature = "memcached")]
pub(crate) const MEMCACHED_UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Questions that it has not answered, those included that nobody waits for any more.
#[cfg(feature = "memcached")]
pub(crate) const MEMCACHED_UNANSWERED_MAX: usize = 64 * 1024;
/// A share of the memory that is available is never less.
#[cfg(feature = "cache")]
pub(crate) const MEMORY_SHARE_BYTES_MIN: u64 = 1024 * 1024;
/// What is taken to be available where the system does not say.
#[cfg(feature = "cache")]
pub(crate) const MEMORY_UNKNOWN_BYTES: u64 = 1024 * 1024 * 1024;
/// Bytes of the answers of one name that a shard keeps, unless its settings say otherwise.
#[cfg(feature = "cache")]
pub(crate) const RESPONSES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The body of an answer that is kept, unless its settings say otherwise.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Answers of one key that differ by what their Vary names; beyond, the oldest goes.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_VARIANTS_MAX: usize = 8;
/// Fields that a Vary may name, or the answer is not kept.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_VARY_MAX: usize = 8;
/// Requests that wait for one answer; more make their own.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_WAITERS_MAX: usize = 10_000;
/// How long they wait, until they make their own.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_WAIT_MS_MAX: u64 = 10_000;
/// How often in a row one waits, if those it waits for go away.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_WAITS_MAX: usize = 3;
/// How long nobody waits for the answers of a key that were not for others.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_PASS_MS: u64 = 10_000;
/// Purges that a shard remembers, for answers that are being made: beyond, those are not kept.
#[cfg(feature = "cache")]
pub(crate) const RESPONSE_PURGES_MAX: usize = 1_024;
/// Keys that a request's loader asks for at once. A power of two, as lists for IN are.
pub(crate) const LOADER_KEYS_MAX: usize = 1_024;

/// What a filter of a streamed body is given at once.
pub(crate) const FILTER_SLICE_BYTES: usize = 16 * 1024;
/// What an entity tag is computed over at once.
pub(crate) const ETAG_SLICE_BYTES: usize = 256 * 1024;
/// A request id that comes with a request; a longer one is not taken.
pub(crate) const REQUEST_ID_BYTES_MAX: usize = 64;
/// Clients whose rate a shard remembers; the one that asked the longest ago is forgotten first.
pub(crate) const RATE_CLIENTS_MAX: usize = 65_536;

/// An answer smaller than this is not compressed.
#[cfg(feature = "compress")]
pub(crate) const COMPRESS_BYTES_MIN: usize = 1_024;
/// What is compressed or decompressed before the others on the shard have their turn.
#[cfg(feature = "compress")]
pub(crate) const CODING_SLICE_BYTES: usize = 16 * 1024;
/// The window of a zstd body, as a power of two: what RFC 9659 allows.
#[cfg(feature = "compress")]
pub(crate) const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The window of a brotli answer, as a power of two: a request holds twice that while it is
/// compressed.
#[cfg(feature = "compress")]
pub(crate) const BROTLI_WINDOW_LOG: u32 = 18;

/// A message that a socket receives, unless its route says otherwise.
#[cfg(feature = "ws")]
pub(crate) const WS_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Messages that wait for a socket which is behind, unless its route says otherwise.
#[cfg(feature = "ws")]
pub(crate) const WS_OUTBOX_MESSAGES_MAX: usize = 256;
/// Their bytes.
#[cfg(feature = "ws")]
pub(crate) const WS_OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// How often a silent client is asked for a sign of life.
#[cfg(feature = "ws")]
pub(crate) const WS_PING_MS: u64 = 30_000;
/// How long a client may send no message; 0 is for ever.
#[cfg(feature = "ws")]
pub(crate) const WS_IDLE_MS: u64 = 0;
/// How long the peer has to answer a Close.
#[cfg(feature = "ws")]
pub(crate) const WS_CLOSE_MS_MAX: u64 = 2_000;
/// What is compressed before the others on the shard have their turn.
#[cfg(feature = "ws")]
pub(crate) const DEFLATE_SLICE_BYTES: usize = 32 * 1024;
/// Rooms that one socket may be in.
#[cfg(feature = "ws")]
pub(crate) const ROOMS_OF_SOCKET_MAX: usize = 1_024;
/// A room's name.
#[cfg(feature = "ws")]
pub(crate) const ROOM_NAME_BYTES_MAX: usize = 256;
/// What a shard remembers of rooms for those who come late, in all.
#[cfg(feature = "ws")]
pub(crate) const REPLAY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages that wait for a shard whose queue is full.
#[cfg(feature = "ws")]
pub(crate) const PUBLISH_WAITING_MAX: usize = 4_096;
/// Names that a question for a room's members brings back, of each shard.
#[cfg(feature = "ws")]
pub(crate) const PRESENCE_NAMES_MAX: usize = 1_000;

/// Of a node in a cluster and its broker.
#[cfg(all(feature = "ws", any(feature = "nats", feature = "redis")))]
pub(crate) mod cluster {
    /// Publications of a node that wait for its broker; the oldest goes for the newest.
    pub(crate) const WAITING_MAX: usize = 8_192;
    /// Their bytes.
    pub(crate) const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
    /// The payload of one that goes to other nodes: what brokers take unless told otherwise.
    pub(crate) const PAYLOAD_BYTES_MAX: usize = 1_000_000;
    /// Publications that leave for the broker in one go, and wait for its word together.
    pub(crate) const BATCH_MAX: usize = 256;
    /// From so many bytes on no more are added to it.
    pub(crate) const BATCH_BYTES: usize = 256 * 1024;
    /// What has come from the broker and waits for the shard; more is dropped, and seen as a gap.
    pub(crate) const INBOUND_MAX: usize = 65_536;
    /// Its bytes.
    pub(crate) const INBOUND_BYTES_MAX: usize = 16 * 1024 * 1024;
    /// Messages of a NATS server on their way there: it is looked after at once.
    #[cfg(feature = "nats")]
    pub(crate) const NATS_WAITING_MAX: usize = 8_192;
    /// What is taken of it before the others on the shard have their turn.
    pub(crate) const HEARD_MAX: usize = 64;
    /// Nodes whose numbers are remembered; the one that was silent the longest is forgotten first.
    pub(crate) const NODES_MAX: usize = 1_024;
    /// A cluster's name.
    pub(crate) const NAME_BYTES_MAX: usize = 64;
    /// How long a broker may take to be connected with.
    pub(crate) const CONNECT_MS_MAX: u64 = 3_000;
    /// How long it may take to answer.
    pub(crate) const ANSWER_MS_MAX: u64 = 2_000;
    /// How often it is asked for a sign of life.
    pub(crate) const PING_MS: u64 = 5_000;
    /// The pause before the first new attempt to connect; each further one is twice as long.
    pub(crate) const PAUSE_MS_MIN: u64 = 100;
    /// The longest pause.
    pub(crate) const PAUSE_MS_MAX: u64 = 5_000;

    const _: () = assert!(PAYLOAD_BYTES_MAX < WAITING_BYTES_MAX);
}

/// Messages that wait for one socket leave together up to here.
#[cfg(feature = "ws")]
pub(crate) const BACKLOG_SEND_BYTES_MAX: usize = BUFFER_BYTES_KEEP_MAX;
/// A message from this size on leaves from where it lies, uncopied, even if others wait.
#[cfg(feature = "ws")]
pub(crate) const BACKLOG_SHARED_BYTES_MIN: usize = 8 * 1024;

/// One provided buffer of a shard's receive ring.
pub(crate) const RECV_BUFFER_BYTES: usize = 32 * 1024;
/// Receives of a shard with a buffer of `STREAM_BYTES_MAX` each: for those who send faster than
/// they are read.
pub(crate) const BULK_RECEIVES_MAX: usize = 32;
/// Provided buffers of a shard: 4 MiB in all. A power of two. Fewer are too few for a turn of 512
/// connections; smaller ones cost a message of 16 KiB a second completion.
pub(crate) const RECV_BUFFERS: u16 = 128;
/// Submission entries of a shard's ring.
pub(crate) const SUBMISSIONS_MAX: u32 = 1_024;
/// Completion entries: one turn may see many times what one submits.
pub(crate) const COMPLETIONS_MAX: u32 = 16 * 1_024;
/// The shard's clock while it is awake, and the longest it keeps glommio waiting.
pub(crate) const TICK_MS: u64 = 5;
/// How long glommio waits for its turn while the shard is busy: a turn takes six allocations, and
/// nothing on a shard needs it yet.
pub(crate) const GLOMMIO_MS_MAX: u64 = 1_000;
/// How often a parked, idle shard looks around by itself.
pub(crate) const PARK_MS_MAX: u64 = 100;
/// How long accepting pauses when the process is out of file descriptors.
pub(crate) const ACCEPT_PAUSE_MS: u64 = 100;
/// How much later than a shard the kernel gives a stalled peer up.
pub(crate) const KERNEL_LATER_MS: u64 = 2_000;
/// Not yet accepted connections of one listener (the kernel caps it with somaxconn).
pub(crate) const BACKLOG_MAX: i32 = 4_096;

/// Messages from one shard to another that wait to be taken.
pub(crate) const MESH_MESSAGES_MAX: usize = 1_024;
/// How long a shard waits for another one's answer.
pub(crate) const MESH_ANSWER_MS_MAX: u64 = 1_000;
/// How long work on another shard may take, unless the caller says.
pub(crate) const CALL_MS_MAX: u64 = 5_000;
/// Messages from threads that are no shards, waiting at one shard.
pub(crate) const POSTED_MAX: usize = 64;
/// Messages taken from one sender before the next one's turn.
pub(crate) const MESH_BATCH_MAX: usize = 64;
/// Wakes from other threads that wait; with more, every task of the shard is polled once.
pub(crate) const FOREIGN_WAKES_MAX: usize = 4_096;

/// Polls of tokio's tasks in one turn of its runtime.
#[cfg(feature = "tokio")]
pub(crate) const PUMP_POLLS_MAX: u32 = 64;
/// Turns of it for one readiness: more, and it waits for the next one.
#[cfg(feature = "tokio")]
pub(crate) const PUMP_TURNS_MAX: u32 = 1_024;
/// How late its timers may be on a shard where nothing goes on.
#[cfg(feature = "tokio")]
pub(crate) const PUMP_IDLE_MS_MAX: u64 = 20;
/// For so long after tokio's last readiness its timers are late by at most a tick.
#[cfg(feature = "tokio")]
pub(crate) const PUMP_AWAKE_MS_MAX: u64 = 1_000;

const _: () = assert!(RECV_BUFFERS.is_power_of_two());
const _: () = assert!(RECV_BUFFER_BYTES <= INBOX_BYTES_MAX);
const _: () = assert!(COMPLETIONS_MAX >= SUBMISSIONS_MAX);
const _: () = assert!(ARENA_BYTES_FIRST <= ARENA_BYTES_KEEP_MAX);
const _: () = assert!(TICK_MS < PARK_MS_MAX);
#[cfg(feature = "db")]
const _: () = assert!(LOADER_KEYS_MAX <= DB_IN_VALUES_MAX);
