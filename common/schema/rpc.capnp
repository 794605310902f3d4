@0xb3a1c0de00000002;
# The header of every frame. See common/wire/PROTOCOL.md for the bytes around it.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("cairn::schema");
using Types = import "types.capnp";

struct RpcHeader {
  enum Kind {
    hello @0;       # first frame of the connecting side; answered by a response
    request @1;
    response @2;    # carries the id of its request
    push @3;        # from the accepting side, unasked; not answered
    ping @4;        # from the connecting side when the peer was silent; answered at once by an empty response
  }
  id @0 :UInt64;
  kind @1 :Kind;
  status @2 :UInt16;        # responses: Errc, 0 = ok
  deadlineMs @3 :UInt32;    # requests: the sender stops waiting after so long; 0 = no limit
  detail @4 :Text;          # responses with an error: the sentence for people
  body @5 :AnyPointer;      # Hello | MdsRequest | MdsReply | MdsPush | OsdRequest | OsdReply
}

struct Hello {
  enum Role {
    client @0;
    osd @1;
    mds @2;
    admin @3;
  }
  protocol @0 :UInt16;
  role @1 :Role;
  cluster @2 :Types.Uuid;   # zero: the sender does not know it yet and takes the answer's
  peer @3 :UInt64;          # session id (client) or OSD id; 0 = none. A new connection of the same role and
                            # peer supersedes older ones: they are closed and drained before the answer.
  answer :group {           # filled in by the accepting side
    cluster @4 :Types.Uuid;
    role @5 :Role;
    id @6 :UInt64;          # OSD id or MDS id
  }
}
