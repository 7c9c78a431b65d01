# The Python modules: akidb._core (csrc/bindings, by pybind11) and akidb.codec._strings (Cython; its Python twin works without it).
# Each appears in the build when its sources do.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)

if(EXISTS ${PROJECT_SOURCE_DIR}/csrc/bindings)
  find_package(pybind11 2.13 CONFIG REQUIRED)
  file(GLOB binding_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/bindings/*.cc)
  if(binding_sources)
    pybind11_add_module(_core MODULE ${binding_sources})
    target_link_libraries(_core PRIVATE akidb_calibration akidb_warnings)
    install(TARGETS _core DESTINATION akidb)
  endif()
endif()

set(strings_pyx ${PROJECT_SOURCE_DIR}/akidb/codec/_strings.pyx)
if(EXISTS ${strings_pyx})
  set(strings_c ${CMAKE_CURRENT_BINARY_DIR}/_strings.c)
  add_custom_command(
    OUTPUT ${strings_c}
    COMMAND ${Python_EXECUTABLE} -m cython -3 --output-file ${strings_c} ${strings_pyx}
    DEPENDS ${strings_pyx}
    COMMENT "Cython: akidb/codec/_strings.pyx"
    VERBATIM)
  Python_add_library(_strings MODULE WITH_SOABI ${strings_c})
  install(TARGETS _strings DESTINATION akidb/codec)
endif()
