# Usage requirements that every target of the project takes on: bulkhead_options (warnings, hardening, sanitizers).

add_library(bulkhead_options INTERFACE)
target_include_directories(bulkhead_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})

target_compile_options(bulkhead_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wnon-virtual-dtor
  -Wcast-align -Wformat=2 -Wimplicit-fallthrough -Wundef
  $<$<BOOL:${BULKHEAD_WERROR}>:-Werror>
  -fvisibility=hidden -fvisibility-inlines-hidden
  -fstack-protector-strong -fstack-clash-protection -fcf-protection
  # g++ 12 takes the members of a std::variant for uninitialised when it inlines moves; automatic variables start as zero anyway.
  $<$<CXX_COMPILER_ID:GNU>:-ftrivial-auto-var-init=zero -Wno-maybe-uninitialized>)
target_compile_definitions(bulkhead_options INTERFACE _GLIBCXX_ASSERTIONS)
# _FORTIFY_SOURCE needs optimisation, and hides errors from AddressSanitizer.
if(NOT BULKHEAD_SANITIZE)
  target_compile_options(bulkhead_options INTERFACE
    $<$<CONFIG:Release,RelWithDebInfo>:-U_FORTIFY_SOURCE$<SEMICOLON>-D_FORTIFY_SOURCE=3>)
endif()
target_link_options(bulkhead_options INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)

if(BULKHEAD_SANITIZE STREQUAL "address")
  target_compile_options(bulkhead_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(bulkhead_options INTERFACE -fsanitize=address,undefined)
elseif(BULKHEAD_SANITIZE STREQUAL "thread")
  # Fences are not modelled by ThreadSanitizer; where one orders accesses the code says so and uses atomics on both sides.
  target_compile_options(bulkhead_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  target_link_options(bulkhead_options INTERFACE -fsanitize=thread)
elseif(BULKHEAD_SANITIZE)
  message(FATAL_ERROR "BULKHEAD_SANITIZE is '${BULKHEAD_SANITIZE}'; use 'address' or 'thread'")
endif()
if(BULKHEAD_SANITIZE)
  target_compile_definitions(bulkhead_options INTERFACE BULKHEAD_SANITIZED=1)
endif()

find_program(BULKHEAD_MOLD mold)
if(BULKHEAD_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# bulkhead_program(NAME SOURCES...): an installed program. The release build makes it static-pie, so that it runs in an
# image that holds nothing else.
function(bulkhead_program name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE bulkhead_options)
  if(BULKHEAD_STATIC)
    target_link_options(${name} PRIVATE -static-pie)
  else()
    target_link_options(${name} PRIVATE -pie)
  endif()
endfunction()
