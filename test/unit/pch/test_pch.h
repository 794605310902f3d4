// Precompiled for the tests: what every test includes.
#pragma once

#include <doctest/doctest.h>

#include "common/pch/common_pch.h"
