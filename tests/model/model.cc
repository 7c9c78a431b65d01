// Explicit-state model of the commit protocol of akidb/wal: visits every state and names the first rule that is broken.
//
//   model <s3 | local> <plain | conditional | repeated> <batches of writer 0> <of writer 1> <mutant, "" for none>
//
// conditional: the first batch of each writer is to happen only if that of the other has not.
// repeated:    the last batch of each writer is the same request, which a client sent to one after the other.
// s3:    nothing is deleted; a put whose answer was lost may land at any later time.
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

enum Phase : uint8_t { kIdle, kLocked };
enum Look : uint8_t { kNone, kProbing, kMissing };
enum Gc : uint8_t { kOff, kDeleting };

struct Writer {
  uint8_t next, phase, slot, ambiguous, left;  // batches done; slot bound to (0: none); the caller was told "unknown"
  uint8_t checked, from;                       // for mutants: looked once; slots below are not remembered
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
};
static_assert(sizeof(State) % 2 == 0 && alignof(State) == 1);

bool local, conditional, repeated;
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
  rule(first == 0, "a folded slot was created again");
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

void finish(State& s, int w) {
  s.writers[w] = {static_cast<uint8_t>(s.writers[w].next + 1), kIdle, 0, 0, 0, 0, s.writers[w].from};
}

void acknowledge(State& s, int w) {
  if (!s.writers[w].left) s.acked |= bit(batch_of(s, w));
  finish(s, w);
}

// The slot was taken by another: free to go to the next, unless nobody waits any more.
void lost(State& s, int w) {
  Writer& writer = s.writers[w];
  const bool left = writer.left;
  writer = {writer.next, kIdle, 0, 0, 0, writer.checked, writer.from};
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
  if (local && s.garbage > at + 1) return;
  uint8_t seen = 0;
  for (int i = 0; i < at; i++) seen |= bit(s.first[i]);
  rule((s.acked & ~seen) == 0, "no stale refusal");
  n.refused |= bit(batch_of(s, w));
  finish(n, w);
  visit(n);
}

// The answer to a put that was carried out: won, or what the slot holds decides.
void answered(State& s, int w, int slot, int batch) {
  const int found = s.log[slot - 1];
  if (found == 0) {
    store(s, slot, batch);
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
    const bool gone = local && s.garbage > mine.slot && !is("no check of garbage before a put");
    if (gone) {
      reload(n, w);
      if (writer.ambiguous && !is("again after gone while unknown")) {
        finish(n, w);  // unknown for ever
      } else {
        lost(n, w);
      }
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
  if (is("the fold forgets requests")) n.writers[w].from = s.folded;
  visit(n);
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
    if (s.garbage <= at + 1 || is("reader trusts every 404")) return done();
    reload(n, kReader);
    n.look = kProbing;
    return visit(n);
  }
  if (at < kSlots && s.log[at] != 0) {
    apply(n, kReader, at + 1, s.log[at]);
    if (is("reader stops before the 404")) return done();
    return visit(n);
  }
  if (!local) return done();
  n.look = kMissing;
  visit(n);
}

template <typename Visit>
void background_steps(const State& s, Visit visit) {
  for (int node = 0; node <= kReader; node++) {
    const uint8_t at = s.applied[node];
    State n = s;
    if (node != kReader && at < kSlots && s.log[at] != 0) {  // follows, as for a strong read of its own
      apply(n, node, at + 1, s.log[at]);
      visit(n);
    }
    n = s;
    if (node != kReader && local && s.garbage > at + 1) {
      reload(n, node);
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
  conditional = std::strcmp(argv[2], "conditional") == 0;
  repeated = std::strcmp(argv[2], "repeated") == 0;
  batches[0] = std::atoi(argv[3]);
  batches[1] = std::atoi(argv[4]);
  mutant = argv[5];
  State start{};
  start.folded = start.garbage = 1;
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
