#include <doctest/doctest.h>

#include "common/net/network.h"

using namespace cairn;

TEST_CASE("endpoints are read back as they are written") {
  for (const char* text : {"127.0.0.1:7000", "[::1]:7001", "[2001:db8::7]:65535",
                           "storage-1.example.org:0", "a_b:1"}) {
    auto e = parseEndpoint(text);
    REQUIRE(e);
    CHECK(e->text() == text);
  }
  CHECK(*parseEndpoint("[::1]:7001") == Endpoint{"::1", 7001});
}

TEST_CASE("what is no endpoint is named, with the reason and the right form") {
  struct Case {
    const char* text;
    const char* reason;
  };
  for (Case c : {Case{"", "port is missing"},
                 {"host", "port is missing"},
                 {":7000", "host is missing"},
                 {"host:", "number from 0"},
                 {"host:70000", "number from 0"},
                 {"host:-1", "number from 0"},
                 {"host:7x", "number from 0"},
                 {"::1:7000", "needs brackets"},
                 {"[::1]", "port is missing"},
                 {"[::1:7000", "\"]\" is missing"},
                 {"[nothing]:1", "no IPv6 address"},
                 {"a b:1", "letters"},
                 {"http://host:1", "brackets"}}) {
    auto e = parseEndpoint(c.text);
    CAPTURE(c.text);
    REQUIRE_FALSE(e);
    CHECK(e.error().code == Errc::kInvalid);
    CHECK(e.error().message.find(c.reason) != std::string::npos);
    CHECK(e.error().message.find("HOST:PORT") != std::string::npos);
  }
}

TEST_CASE("a list has at least one endpoint and no empty ones") {
  auto list = parseEndpoints("a:1,[::2]:2,3.3.3.3:3");
  REQUIRE(list);
  CHECK(list->size() == 3);
  CHECK((*list)[1] == Endpoint{"::2", 2});
  CHECK_FALSE(parseEndpoints(""));
  CHECK_FALSE(parseEndpoints("a:1,"));
  CHECK_FALSE(parseEndpoints("a:1,,b:2"));
}
