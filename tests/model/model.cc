// Explicit-state model of the commit protocol of akidb/wal: visits every state and names the first rule that is broken.
//
//   model <s3 | gc | local> <plain | conditional | repeated> <batches of writer 0> <of writer 1> <mutant, "" for none>
//
// conditional: the first batch of each writer is to happen only if that of the other has not.
// repeated:    the last batch of each writer is the same request, which a client sent to one after the other.
// s3:    nothing is deleted; a put whose answer was lost may land at any later time.
// gc:    the same, but folded slots are deleted without a lock, so a slot may be created again; an answer about a slot counts if HEAD, read within the hour or after it, vouches for the slot.
//        When an hour passes, what HEAD says may be gone becomes what is deleted, and nobody's HEAD is fresh any more.
// local: folded slots are deleted under the exclusive lock; puts run under the shared one, none lands after its call.
//
// Two writers, each a node that also follows the log; a strong reader; a folder on any node; a collector. Their steps
// come in any order; answers may be lost, callers may give up, writers may crash. A slot holds one batch.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kSlots = 6;  // slot n is at index n - 1; more than there are batches, so a second commit has room to show
constexpr int kWriters = 2;
constexpr int kReader = 2;

constexpr int kHours = 1;

enum Phase : uint8_t { kIdle, kLocked, kUnsure };
enum Look : uint8_t { kNone, kProbing, kMissing };
enum Gc : uint8_t { kOff, kDeleting };

struct Writer {
  uint8_t next, phase, slot, ambiguous, left;  // batches done; slot bound to (0: none); the caller was told "unknown"
  uint8_t checked, from;                       // for mutants: looked once; slots below are not remembered
  uint8_t held;                                // what the slot holds, if that is so: HEAD is to be read yet
};

struct State {
  uint8_t log[kSlots];    // what the store has now
  uint8_t first[kSlots];  // what was there first: the truth
  uint8_t late[kSlots];   // bit b: a put of batch b to this slot is still under way
  uint8_t folded, garbage, gc;
  uint8_t acked, refused;  // bit b: its caller was told "durable" / "nothing was written"
  uint8_t applied[kWriters + 1];
  Writer writers[kWriters];
  uint8_t look, wanted;  // the reader, and what was acknowledged before it asked
  uint8_t settled, hours;             // slots below may be deleted; how many hours passed
  uint8_t seen[kWriters + 1], fresh;  // HEAD's garbage as nodes read it; bit n: node n did within the hour
};
static_assert(sizeof(State) % 2 == 0 && alignof(State) == 1);

bool local, collects, conditional, repeated;
int batches[kWriters];
std::string mutant;
const char* broken = nullptr;

bool is(const char* name) { return mutant == name; }
uint8_t bit(int batch) { return static_cast<uint8_t>(1u << batch); }
void rule(bool holds, const char* name) {
  if (!holds && broken == nullptr) broken = name;
}

bool is_last(const State& s, int w) { return s.writers[w].next + 1 == batches[w]; }
int batch_of(const State& s, int w) {
  if (repeated && is_last(s, w)) return batches[0];
  return (w == 0 ? 0 : batches[0]) + s.writers[w].next + 1;
}
bool excludes(int batch) { return conditional && (batch == 1 || batch == batches[0] + 1); }

void store(State& s, int slot, int batch) {
  uint8_t& first = s.first[slot - 1];
  s.log[slot - 1] = static_cast<uint8_t>(batch);
  rule(first == 0 || (!local && slot < s.garbage), "a folded slot was created again");
  if (first != 0) return;
  rule(slot == 1 || s.first[slot - 2] != 0, "no gap");
  for (uint8_t other : s.first) {
    rule(other != batch, "no double commit");
    rule(!excludes(other) || !excludes(batch), "a condition holds where its batch lands");
  }
  rule((s.refused & bit(batch)) == 0, "nothing was written means never");
  first = static_cast<uint8_t>(batch);
}

void apply(State& s, int node, int slot, int batch) {
  if (slot != s.applied[node] + 1) return;
  rule(s.first[slot - 1] == batch, "nodes apply the log");
  s.applied[node] = static_cast<uint8_t>(slot);
}

void reload(State& s, int node) {
  if (s.applied[node] < s.folded - 1) s.applied[node] = static_cast<uint8_t>(s.folded - 1);
}

bool vouched(const State& s, int node, int slot) { return (s.fresh & bit(node)) != 0 && s.seen[node] <= slot; }
void read_head(State& s, int node) {
  s.seen[node] = s.garbage;
  s.fresh |= bit(node);
}

void finish(State& s, int w) {
  s.writers[w] = {static_cast<uint8_t>(s.writers[w].next + 1), kIdle, 0, 0, 0, 0, s.writers[w].from, 0};
}

void acknowledge(State& s, int w) {
  if (!s.writers[w].left) s.acked |= bit(batch_of(s, w));
  finish(s, w);
}

// The slot was taken by another: free to go to the next, unless nobody waits any more.
void lost(State& s, int w) {
  Writer& writer = s.writers[w];
  const bool left = writer.left;
  writer = {writer.next, kIdle, 0, 0, 0, writer.checked, writer.from, 0};
  if (left) finish(s, w);
}

// What the writer's state says of its batch before a put: it is there already, it may not be, or nothing against it.
enum Verdict { kGo, kThere, kRefused };
Verdict verdict(const State& s, int w) {
  const int batch = batch_of(s, w);
  const Writer& writer = s.writers[w];
  if (is("checked once") && writer.checked) return kGo;
  for (int i = 0; i < s.applied[w]; i++) {
    if (repeated && s.first[i] == batch && !is("no look for the request") && i + 1 >= writer.from) return kThere;
    if (excludes(s.first[i]) && excludes(batch) && !is("no look at the condition")) return kRefused;
  }
  return kGo;
}

// A state may refuse only at the end of the log: what it lacks could have made the condition true.
template <typename Visit>
void refuse(const State& s, int w, Visit visit) {
  State n = s;
  const uint8_t at = s.applied[w];
  if (at < kSlots && s.log[at] != 0 && !is("refused by what it knows")) return;  // follows first
  if (s.garbage > at + 1 && (local || !vouched(s, w, at + 1))) return;
  uint8_t seen = 0;
  for (int i = 0; i < at; i++) seen |= bit(s.first[i]);
  rule((s.acked & ~seen) == 0, "no stale refusal");
  n.refused |= bit(batch_of(s, w));
  finish(n, w);
  visit(n);
}

// What the slot holds, for certain: won, or another's.
void decided(State& s, int w, int slot, int batch, int found) {
  if (found == 0) {
    apply(s, w, slot, batch);
    acknowledge(s, w);
  } else if (is("412 is success") || (found == batch && !is("no uuid compare"))) {
    apply(s, w, slot, found);
    acknowledge(s, w);
  } else {
    apply(s, w, slot, found);
    lost(s, w);
  }
}

// The answer to a put that was carried out, with what the slot held before it.
void answered(State& s, int w, int slot, int batch) {
  const int found = s.log[slot - 1];
  if (found == 0) store(s, slot, batch);
  const bool blind = found == 0 ? is("no look at HEAD after a put") : is("no look at HEAD after a refusal");
  if (local || blind || vouched(s, w, slot)) return decided(s, w, slot, batch, found);
  s.writers[w].phase = kUnsure;
  s.writers[w].held = static_cast<uint8_t>(found == 0 ? batch : found);
}

void gone(State& s, int w) {
  reload(s, w);
  if (s.writers[w].ambiguous && !is("again after gone while unknown")) {
    finish(s, w);  // unknown for ever
  } else {
    lost(s, w);
  }
}

// HEAD is read after the answer: the slot may have been deleted and created again.
template <typename Visit>
void unsure_steps(const State& s, int w, Visit visit) {
  const Writer& writer = s.writers[w];
  State n = s;
  read_head(n, w);
  n.writers[w].phase = kIdle;
  n.writers[w].held = 0;
  if (s.garbage <= writer.slot) {
    decided(n, w, writer.slot, batch_of(s, w), writer.held);
  } else {  // what it put may have been folded since, as well as before
    if (writer.held == batch_of(s, w) && !is("again where it may have won")) n.writers[w].ambiguous = 1;
    gone(n, w);
  }
  visit(n);
  n = s;  // HEAD can't be read: nothing is known
  n.writers[w].phase = kIdle;
  n.writers[w].held = 0;
  n.writers[w].ambiguous = 1;
  visit(n);
}

template <typename Visit>
void put_steps(const State& s, int w, Visit visit) {
  const int batch = batch_of(s, w);
  const int slot = s.writers[w].slot;
  if (slot > kSlots) return;
  const auto then = [&](auto change) {
    State next = s;
    next.writers[w].phase = kIdle;
    change(next);
    visit(next);
  };
  then([&](State& n) { answered(n, w, slot, batch); });
  const auto forgotten = [&](State& n) {  // no answer
    n.writers[w].ambiguous = 1;
    if (is("next slot while unknown")) n.writers[w].slot++;
    if (is("no answer means not written")) lost(n, w);
  };
  if (local && !is("put outlives its lock")) {
    then(forgotten);  // never carried out, or carried out at once
    then([&](State& n) {
      if (n.log[slot - 1] == 0) store(n, slot, batch);
      forgotten(n);
    });
  } else {
    then([&](State& n) {
      n.late[slot - 1] |= bit(batch);
      forgotten(n);
    });
  }
}

template <typename Visit>
void writer_steps(const State& s, int w, Visit visit) {
  const Writer& writer = s.writers[w];
  if (writer.next == batches[w]) return;
  State n = s;
  if (writer.phase == kLocked) {
    put_steps(s, w, visit);
  } else if (writer.phase == kUnsure) {
    unsure_steps(s, w, visit);
  } else {
    Writer& mine = n.writers[w];
    if (mine.slot == 0) {
      const Verdict found = verdict(s, w);
      if (found == kRefused) return refuse(s, w, visit);
      if (found == kThere) {
        acknowledge(n, w);
        return visit(n);
      }
      if (is("checked once")) mine.checked = 1;
    }
    if (mine.slot == 0) mine.slot = static_cast<uint8_t>(n.applied[w] + 1);
    if (is("ack before put")) n.acked |= bit(batch_of(s, w));
    if (is("pipelined slots") && writer.next + 1 < batches[w] && mine.slot < kSlots) {
      n.late[mine.slot] |= bit(batch_of(s, w) + 1);  // its next batch, at the next slot, already on the way
    }
    if (local && s.garbage > mine.slot && !is("no check of garbage before a put")) {
      gone(n, w);
      visit(n);
    } else if (!local || s.gc == kOff || is("gc without lock")) {
      n.writers[w].phase = kLocked;
      visit(n);
    }
    n = s;  // the caller gives up
    if (writer.slot == 0 || (is("unknown is refused") && writer.ambiguous)) {
      if (!repeated || !is_last(s, w)) n.refused |= bit(batch_of(s, w));
      finish(n, w);
      visit(n);
    } else if (!writer.left) {
      n.writers[w].left = 1;
      visit(n);
    }
  }
  n = s;  // crash; a new process opens HEAD and goes on with the next request
  finish(n, w);
  n.applied[w] = static_cast<uint8_t>(s.folded - 1);
  read_head(n, w);
  if (is("the fold forgets requests")) n.writers[w].from = s.folded;
  visit(n);
}

// Applies the next slot; without a fresh HEAD that is read first, and then the slot still holds what was found, or HEAD
// says that it may be gone. False where the node jumped ahead instead.
bool follow(State& s, int node) {
  const int at = s.applied[node];
  if (!local && !vouched(s, node, at + 1) && !is("no look at HEAD after a body")) {
    read_head(s, node);
    if (s.garbage > at + 1) {
      reload(s, node);
      return false;
    }
  }
  apply(s, node, at + 1, s.log[at]);
  return true;
}

template <typename Visit>
void reader_steps(const State& s, Visit visit) {
  State n = s;
  const uint8_t at = s.applied[kReader];
  if (s.look == kNone) {
    n.look = kProbing;
    n.wanted = s.acked;
    return visit(n);
  }
  const auto done = [&] {
    uint8_t seen = 0;
    for (int i = 0; i < n.applied[kReader]; i++) seen |= bit(s.first[i]);
    rule((s.wanted & ~seen) == 0, "no stale strong read");
    n.look = kNone;
    n.wanted = 0;
    visit(n);
  };
  if (s.look == kMissing) {
    read_head(n, kReader);
    if (s.garbage <= at + 1 || is("reader trusts every 404")) return done();
    reload(n, kReader);
    n.look = kProbing;
    return visit(n);
  }
  if (at < kSlots && s.log[at] != 0) {
    if (!follow(n, kReader)) return visit(n);
    if (is("reader stops before the 404")) return done();
    return visit(n);
  }
  if (!local && vouched(s, kReader, at + 1)) return done();
  n.look = kMissing;
  visit(n);
}

// A collector without locks: HEAD says first what may be gone, an hour passes, then that is deleted, lowest first.
template <typename Visit>
void bucket_steps(const State& s, Visit visit) {
  State n = s;
  if (s.garbage < s.folded) {
    n.garbage = s.folded;
    if (is("deleted as soon as HEAD says so")) n.settled = n.garbage;
    visit(n);
  }
  n = s;
  if (s.hours < kHours) {
    n.hours++;
    n.settled = is("delete before raising garbage") ? s.folded : s.garbage;
    if (!is("HEAD is fresh for ever")) n.fresh = 0;
    visit(n);
  }
  n = s;
  int slot = 1;
  while (slot < s.settled && s.log[slot - 1] == 0) slot++;
  if (slot < s.settled) {
    n.log[slot - 1] = 0;
    visit(n);
  }
}

template <typename Visit>
void background_steps(const State& s, Visit visit) {
  for (int node = 0; node <= kReader; node++) {
    const uint8_t at = s.applied[node];
    State n = s;
    if (node != kReader && at < kSlots && s.log[at] != 0) {  // follows, as for a strong read of its own
      follow(n, node);
      visit(n);
    }
    n = s;
    if (node != kReader && s.garbage > at + 1) {
      reload(n, node);
      if (!local) read_head(n, node);
      visit(n);
    }
    const int fold = at + 1 + (is("fold beyond applied") ? 1 : 0);
    if (fold > s.folded || (is("fold without compare") && fold != s.folded)) {
      n = s;
      n.folded = static_cast<uint8_t>(fold);
      rule(fold <= at + 1, "fold is the log");
      rule(fold >= s.garbage, "what may be gone is folded");
      visit(n);
    }
  }
  for (int slot = 1; slot <= kSlots; slot++) {
    for (int batch = 1; batch <= batches[0] + batches[1]; batch++) {
      if (!(s.late[slot - 1] & bit(batch))) continue;
      State n = s;
      n.late[slot - 1] &= static_cast<uint8_t>(~bit(batch));
      if (n.log[slot - 1] == 0) store(n, slot, batch);
      visit(n);
    }
  }
  if (collects) return bucket_steps(s, visit);
  if (!local) return;
  State n = s;
  bool putting = false;
  for (const Writer& writer : s.writers) putting |= writer.phase == kLocked;
  const bool raise_last = is("delete before raising garbage");
  if (s.gc == kOff && s.garbage < s.folded && (!putting || is("gc without lock"))) {
    n.gc = kDeleting;
    if (!raise_last) n.garbage = s.folded;
    visit(n);
  } else if (s.gc == kDeleting) {
    const int below = raise_last ? s.folded : s.garbage;
    int slot = 1;
    while (slot < below && s.log[slot - 1] == 0) slot++;
    if (slot < below) {
      n.log[slot - 1] = 0;
    } else {
      n.gc = kOff;
      n.garbage = static_cast<uint8_t>(below);
    }
    visit(n);
  }
}

void check(const State& s) {
  uint8_t there = 0;
  for (int i = 0; i < kSlots; i++) {
    there |= bit(s.first[i]);
    rule(i + 1 < s.folded || s.log[i] == s.first[i], "what is not folded is in the log");
  }
  rule((s.acked & ~there) == 0, "nothing acknowledged is lost");
}

struct Seen {  // open addressing over indices into `states`
  std::vector<State> states;
  std::vector<uint32_t> table = std::vector<uint32_t>(1u << 20, UINT32_MAX);

  static uint64_t hash(const State& s) {
    std::array<uint64_t, (sizeof(State) + 7) / 8> words{};
    std::memcpy(words.data(), &s, sizeof s);
    uint64_t h = 0;
    for (uint64_t word : words) h = (h ^ word) * 0x9E3779B97F4A7C15u, h ^= h >> 29;
    return h;
  }
  bool insert(const State& s) {
    if (states.size() * 2 > table.size()) {
      table.assign(table.size() * 2, UINT32_MAX);
      for (uint32_t i = 0; i < states.size(); i++) table[find(states[i])] = i;
    }
    const size_t at = find(s);
    if (table[at] != UINT32_MAX) return false;
    table[at] = static_cast<uint32_t>(states.size());
    states.push_back(s);
    return true;
  }
  size_t find(const State& s) const {
    size_t at = hash(s) & (table.size() - 1);
    while (table[at] != UINT32_MAX && std::memcmp(&states[table[at]], &s, sizeof s) != 0)
      at = (at + 1) & (table.size() - 1);
    return at;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  local = std::strcmp(argv[1], "local") == 0;
  collects = std::strcmp(argv[1], "gc") == 0;
  conditional = std::strcmp(argv[2], "conditional") == 0;
  repeated = std::strcmp(argv[2], "repeated") == 0;
  batches[0] = std::atoi(argv[3]);
  batches[1] = std::atoi(argv[4]);
  mutant = argv[5];
  State start{};
  start.folded = start.garbage = start.settled = 1;
  for (int node = 0; node <= kReader; node++) read_head(start, node);
  Seen seen;
  seen.insert(start);
  uint64_t transitions = 0;
  for (size_t i = 0; i < seen.states.size() && broken == nullptr; i++) {
    const State s = seen.states[i];
    const auto visit = [&](const State& next) {
      transitions++;
      check(next);
      seen.insert(next);
    };
    for (int w = 0; w < kWriters; w++) writer_steps(s, w, visit);
    reader_steps(s, visit);
    background_steps(s, visit);
  }
  std::printf("%zu states, %llu transitions: %s\n", seen.states.size(), static_cast<unsigned long long>(transitions),
              broken == nullptr ? "every rule holds" : broken);
  return broken == nullptr ? 0 : 1;
}
