# akidb_warnings: linked by every target of ours. Warnings are not errors here, since a compiler newer than ours must still build a release;
# the sanitizer script turns them into errors.
add_library(akidb_warnings INTERFACE)
target_compile_options(akidb_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor)
