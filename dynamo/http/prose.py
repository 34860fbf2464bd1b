"""What docs/http.md says around its tables. Text only: what can be counted or listed is not here.

A name in double angle brackets is replaced by a table or a value (`dynamo.http.document`). Knows
nothing of how it is laid out.
"""

from __future__ import annotations

from typing import Final

PAGE: Final = """\
# The HTTP API

Every node serves all of it, for every key. It is Riak KV's HTTP API, so clients that exist work;
what is different is [listed at the end](#what-differs-from-riak). `curl` is a client too:

    curl -X PUT -H 'Content-Type: text/plain' -d bread http://127.0.0.1:8098/buckets/carts/keys/alice
    curl -i http://127.0.0.1:8098/buckets/carts/keys/alice

The same, for programs, is the OpenAPI 3.1 document at `GET /openapi.json`. This page and that
document are made from the table the node routes by (`python -m dynamo.http.document --write`).

## All paths

<<paths>>

A path is split at every `/` first and decoded after, so that a key may hold any byte: `/` is `%2F`,
and `..` is a key like any other. A `+` stands for a space, as in Riak. Names are bytes: nothing is
normalised, and two spellings of one accent are two keys. HEAD is GET without a body. A method that
a path does not have is answered 405 with `Allow`, OPTIONS too. What a query says beyond the
[parameters below](#query-parameters) is ignored.

<<objects>>

## Siblings and contexts

Concurrent writes are all kept: they are *siblings*. A write says which of them it has seen by
handing back the **context** of the read it builds on, `X-Riak-Vclock`. It replaces what that
context covers, and nothing else.

    curl -i http://127.0.0.1:8098/buckets/carts/keys/alice        # 200, and X-Riak-Vclock: gZ5C...
    curl -X PUT -H 'X-Riak-Vclock: gZ5C...' -H 'Content-Type: text/plain' -d 'bread and milk' \\
        http://127.0.0.1:8098/buckets/carts/keys/alice            # replaces just that

A write without a context replaces nothing: if there is a value, it becomes one of two siblings.
Then a GET answers **300**, and the `Accept` header decides how:

| Accept names | the body of the 300 |
|---|---|
| `multipart/mixed` | a part for each sibling, with its headers; its `Etag` is its vtag |
| `application/json` and no multipart | `siblings`, each with its `value` or `value_base64`; `context` |
| neither | `text/plain`: `Siblings:`, then a vtag a line; `?vtag=` fetches one |

All three carry the context that covers all siblings: write the merged value with it, and they are
one again. A vtag is good for fetching; to resolve, use the context of the 300.

A context is opaque and sealed: it is good for this key in this cluster and nothing else. One that
was cut, altered or taken from another key is answered 400 `bad_context`. A DELETE takes one too,
and without one deletes what a read shows. What was deleted is a 404 with `X-Riak-Deleted: true` and
a context, so that a later write can say that it saw the delete; a key that never was is a 404
without one.

The reply to a write has no context, unless `returnbody=true` shows what it covers.

## Conditional requests

`If-Match` and `If-None-Match` go by the `ETag` of the object as a whole: of one value its vtag, of
several siblings a name of their set. `If-Modified-Since` and `If-Unmodified-Since` go by
`Last-Modified`, in whole seconds. On a read what does not hold is 304 or 412, in the order of RFC
9110. On a write it is 412, and nothing was done.

    curl -X PUT -H 'If-None-Match: *' ...        # only if there is no value yet
    curl -X PUT -H 'If-Match: "<etag>"' ...      # only if it is still the one that was read

The condition of a write is judged after a read at r by the node that coordinates it, and again,
against its own record, by the replica that gives the write its version. **It is not a lock**: two
clients at two nodes may both pass, and what they wrote are then siblings. Nothing is lost; hand
back a context and resolve.

<<sections>>

## Query parameters

Counts are of the n replicas of the bucket type. `default` is what the bucket's properties say and,
where they are silent, the default below. `quorum` is n/2 + 1. A parameter given twice is refused.
[Below](#while-nodes-are-down) is what counts while replicas are down.

<<parameters>>

## Request headers

<<request_headers>>

## Reply headers

<<reply_headers>>

## Errors

The body of every error is JSON:

    {"message": "w must be 1 to 3, or one, quorum, all, default", "code": "invalid_argument",
     "outcome": "none", "request_id": "9c3f0a61d2b4e877-1f",
     "field": "w", "allowed": "1 to 3, or one, quorum, all, default"}

`message` is for people and may change. `code` is for programs and does not. `outcome` is the
question that matters after a write: **none**: nothing was done, and nothing will be; **unknown**:
some replica may have it, or may yet, so read before writing again. `request_id` is also in
`X-Request-Id` and in the node's log. No body shows a stack trace, a path or a stored value.

<<errors>>

Any request may meet <<common_errors>>, and on a path or with a method that is not there
`no_such_resource` or `method_not_allowed`.

## Limits and timeouts

<<limits>>

What is over a limit is refused before it is read where that can be known, and never stored in part.

## Values that expire

    curl -X PUT -H 'Content-Type: text/plain' -H 'X-Dynamo-Expires: 3600' -d 'signed in' \\
        http://127.0.0.1:8098/buckets/sessions/keys/alice
    curl -X PUT -H 'Content-Type: application/json' -d '{"props": {"ttl": 86400}}' \\
        http://127.0.0.1:8098/buckets/sessions/props

A write says when its value expires, or its bucket does, or its bucket type; else it never does. Each
write decides anew: one without `X-Dynamo-Expires` goes by the bucket's `ttl`, whatever the value that it
replaces had, and a later change of `ttl` changes nothing that is written. The time is fixed when the
write is made, by the clock of the node that was asked, and is judged by the clock of the node that is
asked to read: clocks that differ move it by as much. A time that is past is refused.

- An expired value is gone as a deleted one is: 404, with `X-Riak-Deleted: true` and a context, and no
  listing has it. Of several siblings only those that have expired are gone. Conditions go by what is
  left: `If-None-Match: *` holds.
- Where the last write wins, it does so also once it has expired: what it replaced stays gone.
- Read the key before you write it, and hand back the context, as for any other: a blind PUT beside a
  value that has not expired yet makes siblings. What has expired never stands in the way of a write.
- It is gone for good: no repair, hint or restored disk brings an expired value back. Its bytes leave
  each disk an hour later.

## While nodes are down

The n owners of a key are its *primaries*. For each that is down, as the node sees it that was asked,
another node stands in, where there is one to spare in the datacenter: a *fallback*. It keeps the write
on disk, and hands it over when the primary is back. So a write goes on, and says who has it:

    X-Dynamo-Acks: primary=2,fallback=1

- `w` counts both, each a distinct node that has it on disk; `pw` counts primaries alone. A fallback
  that takes no more for that primary, since it has been away for too long or there is no room, refuses,
  and does not count.
- `r` is met by primaries as long as there are r that answer. Where there are fewer, a fallback
  counts for what is lacking if it has something of the key. One that has nothing never counts, whatever
  `notfound_ok` says: it knows nothing of what was written before. What fallbacks have is always merged.
  So a key that is not there is a 503, and no 404, while fewer than r of its primaries are up.
- `pr`, and `read_repair=blocking`, count primaries alone.

What cannot be met is 503 `unavailable` before anybody is asked, with the outcome `none`, and with how
many there are:

    {"required": 2, "received": 3, "primaries": 2, "fallbacks": 1, "primaries_required": 3, "alive": 2,
     "reasons": {"n5": "down"}, "message": "2 of 3 primaries are up; nobody was asked",
     "code": "unavailable", "outcome": "none", "request_id": "4fd7e4cee6427634-a4"}

A write that was inside a node as it died may end as `write_uncertain`: `reasons` names who has not
answered, and the outcome is `unknown`. What the node itself keeps for others is at `/admin/hints`, and a
POST to `/admin/hints/sync` waits until that is handed over.

## Overload

A node that has as much to do as it takes says so before it does anything, and before it reads a body:
503 `overloaded`, with `Retry-After` in whole seconds and `retry_after_ms` in the body, both drawn, so
that clients do not come back together. A client, by its address, that has more in flight than its
share while others come gets 429 `too_many_requests` instead. Both have the outcome `none`, whatever
the request was: it can be made again, here later or at another node now. The paths of the node
itself (`/health/*`, `/metrics`, `/admin/*`, `/ping`, `/stats`, `/`) have room of their own; above the
limit of connections <<reserved>> more may ask those, one request each.

## What differs from Riak

- **Siblings are the default**, for every bucket type. Riak's `default` type keeps the last write by
  the clock; `{"props": {"allow_mult": false}}` does here too.
- **Properties that are not honoured are refused**: there are no hooks, backends or `small_vclock`.
- **300**: `text/plain` and `multipart/mixed` are Riak's; `application/json` is ours. There is no
  406.
- **Contexts are sealed.** Nothing binds a vector clock of Riak to its key; a context of another key
  is a 400 here.
- **A blind PUT never replaces**: where there is a value, it adds a sibling.
- **Errors are JSON**, and say whether the write may have happened. Riak's are text.
- **w counts disks.** Each acknowledgement is of a write that is synced, so `dw` can only raise w.
- **Counts are checked**: 0, negative or above n is a 400 that names the range. The words are `one
  quorum all default`.
- **notfound_ok, basic_quorum** as in Riak: by default a replica without the record is an answer.
- **A delete leaves a tombstone** until it is proved that no copy of the value is left that could come
  back, not for some time (`delete_mode`). After that the key is absent: a 404 without a context.
- **At most <<siblings_max>> siblings** and <<record_bytes_max>> a record. A write that would pass
  that is a 409 that holds the siblings.
- **Metadata names** come back in lower case: `X-Riak-Meta-Colour` as `X-Riak-Meta-colour`.
- **Bucket types** are replication classes of the cluster file. They are not made over HTTP.
- **Not built**: links (a `Link` other than `rel="up"` is a 400), secondary indexes
  (`X-Riak-Index-*` is a 400), MapReduce, search, hooks. They are refused by name where a client
  could believe that they had been stored.
- **Listings say whether they are complete**, and can be cut into pages: `limit` and `cursor`.
- **Fallbacks say so**: `X-Dynamo-Acks`, and in a 503 `primaries` and `fallbacks`. A fallback without the
  key is no answer to a read; in Riak it is one.
- **Ours alone**: `/openapi.json`, `/metrics`, `/admin/*`, `/health/*`, `read_repair=blocking`,
  `X-Dynamo-*`.
"""

#: What a section says before its operations.
SECTIONS: Final[dict[str, str]] = {
    "Objects": """\
An object is bytes with a `Content-Type`, and perhaps a `Content-Encoding` and `X-Riak-Meta-*`
headers. They come back as they were sent; nothing is decoded or compressed. `/buckets/...` and
`/riak/...` are the bucket type `default`. A POST to a key is a PUT; a POST to the keys of a bucket,
or to an empty key, chooses a key.
""",
    "Properties": """\
What applies to the requests of a bucket where they are silent. A bucket has what it was given
itself; behind it stands its bucket type, and behind that the defaults. A change is in force once
every member that is up has it on disk: then comes the 204. If one that is up cannot confirm, the
answer is 503 `properties_uncertain`, which names it; the change reaches it later, by gossip. A
member that is down learns the change before it takes requests again.

| property | default | what it is |
|---|---|---|
| `n_val` | of the type | how many replicas; shown, and cannot be changed |
| `allow_mult` | true | concurrent values are kept as siblings |
| `last_write_wins` | false | of concurrent values the one with the latest stamp is shown |
| `dvv_enabled` | true | siblings rest on dotted version vectors |
| `r`, `w`, `rw` | quorum | as the parameters of these names |
| `pr`, `pw`, `dw`, `node_confirms` | 0 | as the parameters of these names |
| `notfound_ok`, `basic_quorum` | true, false | as the parameters of these names |
| `ttl` | 0 | seconds after which what is written here expires, at most ten years; 0 for never |

`allow_mult`, `last_write_wins` and `dvv_enabled` say one thing together, siblings or the last
write, and have to fit. Any other property is refused by name, and then nothing is changed.

    curl -X PUT -H 'Content-Type: application/json' -d '{"props": {"w": "all"}}' \\
        http://127.0.0.1:8098/buckets/carts/props
    curl http://127.0.0.1:8098/buckets/carts/props
""",
    "Listing": """\
Expensive, as in Riak: the work grows with all keys of the bucket, or of the type. Every partition
is asked at a read quorum, so that what was acknowledged is there. The last object says `complete`:
`true` if all of them are there, up to the `cursor` where `limit` ended the list, which goes on from
there; `false` where some partition could not be read in time. With `stream` no chunk nests an
object, and the last is `{"keys":[],"complete":true}`. Names that are not UTF-8 come percent-encoded
under `encoded_keys` or `encoded_buckets`. Without `keys=` or `buckets=` nothing is listed.

    curl 'http://127.0.0.1:8098/buckets/carts/keys?keys=stream'
    curl 'http://127.0.0.1:8098/buckets/carts/keys?keys=true&limit=100'       # and then &cursor=...
    curl 'http://127.0.0.1:8098/buckets?buckets=true'
""",
    "Preference lists": """\
Where a key lives, and which of its nodes this node can reach. Nobody else is asked.
""",
    "The node": """\
These say something of the node that is asked, and do not ask others. `/health/live` is for whoever
restarts it, `/health/ready` for whoever sends it requests. `/stats` has Riak's names for what this
node also counts; `/metrics` has everything, each with a line that says what it is. `dynamo status`
prints `/admin/status`.
""",
    "Anti-entropy": """\
Nodes compare what they keep with the other owners all the time, and bring up to date whoever is
behind. A *pair* is a partition of a class and another owner of it; it is *clean* once an exchange
has found both the same, or made them so. `oldest_clean_s` is how many seconds ago the last pair was:
everything that the node keeps was in agreement then. `dynamo antientropy` prints this.

A repair goes over all pairs of the node now, or those of a partition, a bucket type, a bucket or a
peer, again and again until it finds nothing. One runs at a time. It remembers nothing that it
needs: stopped or cut off, it is started again, and what has been repaired is not repaired twice.
`dynamo repair` starts one and waits for it.

    curl -X POST http://127.0.0.1:8098/admin/repair
    curl -X POST -H 'Content-Type: application/json' -d '{"bucket": "carts", "peer": "n2"}' \\
        http://127.0.0.1:8098/admin/repair
    curl http://127.0.0.1:8098/admin/repair
""",
    "Fault injection": """\
For tests and measurements: a node that was started with `--fault-injection` delays its messages to
other nodes, or cuts itself off from some of them, as it is told here. Any other node answers 403. One
that allows it says so in its log, in `/admin/status` (`faults`) and in `/metrics`
(`dynamo_fault_injection`, `dynamo_faults_delaying`, `dynamo_faults_peers_cut`). The rules are gone when
the node ends.

    curl -X PUT -H 'Content-Type: application/json' http://127.0.0.1:8098/admin/faults -d '
        {"rules": [{"leg": "W", "delay": [[0.4, "pareto", 1.05, 1.51], [0.6, "exponential", 0.183]]},
                   {"peers": ["n3"], "drop": true}]}'
    curl -X DELETE http://127.0.0.1:8098/admin/faults

- `peers`: whom a rule is about, by node id; none for all others.
- `leg`: which messages: `W`, writes to a replica; `A`, the answers to them; `R`, reads; `S`, the
  answers to them; `*`, all messages, but for those of a leg that a rule of its own fits.
- `delay`: parts of a distribution, each `[weight, kind, parameters...]`, of milliseconds: `exponential`
  with a rate per millisecond, `pareto` with its least value and alpha, `constant`. The weights make 1.
  A delay above 60 s is cut to that, and counted.
- `drop`: nothing passes to or from these peers. Connections with them are closed, and none is made
  while it lasts; they are told nothing. A cut goes before every delay. Cut a partition at both sides.

The first rule that fits counts. Each message is held for a time of its own, so that one may overtake
another, but for the two answers to one write; it is late from the moment at which it would have been
sent, by the sender. What a node has to say to itself is never delayed. A request whose time is up
meanwhile is not sent any more, and counted. A node holds at most 100,000 messages, and 256 MiB of
them: a request above that is not sent, and a reply ends its connection.
""",
}
