// Precompiled: what nearly every file includes and none of us changes. Two thirds of a compilation
// were these.
#pragma once

#include "common/schema/kj_fix.h"
// clang-format off
#include <capnp/message.h>
#include <capnp/serialize.h>
// clang-format on

#include <algorithm>
#include <chrono>
#include <coroutine>
#include <deque>
#include <expected>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>
