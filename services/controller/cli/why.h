#pragma once

#include "schema/messages.h"
#include "services/controller/cli/options.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {

/// The newest events that `why` shows.
inline constexpr std::size_t kWhyEvents = 50;

/// All that the tables have about an address (of its point with `port` only, unless that is 0), a prefix or a peer:
/// "summary" (what happens to it now), "banned" and the deciding entry's fields, "entries" (all that match, the
/// deciding one first), "connections", "points", "peers", "counts" (of each kind of event with its reason, how often
/// and when last, as far as the table of events goes back) and "events" (the newest first, at most kWhyEvents) and
/// "past" (as many of the points' and peers' histories from before the last start). Of a peer with the lists' entries
/// for the address where it was seen last; of a prefix with all that lies in it, of the lists what is over all of it,
/// and "refusals_within" (how many bans and greylistings are of a part).
ShownJson why_json(const NodeTables& tables, const schema::AclSubject& subject, std::uint16_t port);

int run_why(const Arguments& arguments);

}  // namespace bulkhead::cli
