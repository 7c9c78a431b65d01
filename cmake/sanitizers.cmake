# Applies AKIDB_SANITIZE to everything, since a sanitizer that sees half of a program reports nonsense.
if(AKIDB_SANITIZE)
  foreach(sanitizer IN LISTS AKIDB_SANITIZE)
    if(NOT sanitizer MATCHES "^(address|undefined|thread|fuzzer-no-link)$")
      message(FATAL_ERROR "AKIDB_SANITIZE: '${sanitizer}' is not one of address, undefined, thread, fuzzer-no-link")
    endif()
    add_compile_options(-fsanitize=${sanitizer})
    if(sanitizer STREQUAL undefined) # which leaves this out
      add_compile_options(-fsanitize=float-cast-overflow)
    endif()
    add_link_options(-fsanitize=${sanitizer})
  endforeach()
  add_compile_options(-fno-omit-frame-pointer -fno-sanitize-recover=all -UNDEBUG -g)
  # A loop that is watched is not always unrolled where a pragma asks for it, of which Clang warns.
  add_compile_options($<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-pass-failed>)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1")
endif()
