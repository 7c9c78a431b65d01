# A kernel unit must define its table and nothing else that other units could see or share. A weak symbol in it (an inline function, a
# template of the standard library) may be the copy the linker keeps for the whole program, and then a machine without that level
# meets its instructions far from any dispatch.
execute_process(COMMAND ${NM} -C --defined-only --extern-only ${OBJECT} OUTPUT_VARIABLE listing RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${NM} failed on ${OBJECT}")
endif()
string(STRIP "${listing}" listing)
if(NOT listing MATCHES "^[0-9a-f]+ [DRS] _?akidb::${LEVEL}::kKernels$")
  message(FATAL_ERROR "${OBJECT} must define akidb::${LEVEL}::kKernels alone, but defines:\n${listing}")
endif()
