// 4 warps, 3 stages
module @seed_attention_forward {
  tt.func public @seed_attention_forward(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<f32> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<256> : tensor<64xi32>
    %cst_0 = arith.constant dense<1.44269502> : tensor<64xf32>
    %cst_1 = arith.constant dense<1.000000e+00> : tensor<64xf32>
    %cst_2 = arith.constant dense<1.000000e+00> : tensor<64x64xf32>
    %cst_3 = arith.constant dense<0.000000e+00> : tensor<64x1xf32>
    %cst_4 = arith.constant dense<-1.000000e+30> : tensor<64x64xf32>
    %cst_5 = arith.constant dense<0.000000e+00> : tensor<64x64xf32>
    %cst_6 = arith.constant dense<524288> : tensor<64x128xi32>
    %cst_7 = arith.constant dense<0.000000e+00> : tensor<64xf32>
    %cst_8 = arith.constant dense<-5.000000e+29> : tensor<64xf32>
    %cst_9 = arith.constant dense<0.000000e+00> : tensor<64x128xf32>
    %c16_i32 = arith.constant 16 : i32
    %c63_i32 = arith.constant 63 : i32
    %cst_10 = arith.constant dense<0.000000e+00> : tensor<64x128xbf16>
    %cst_11 = arith.constant dense<128> : tensor<64x128xi32>
    %cst_12 = arith.constant dense<512> : tensor<64x128xi32>
    %cst_13 = arith.constant dense<32768> : tensor<64x128xi32>
    %cst_14 = arith.constant dense<64> : tensor<64xi32>
    %c64_i32 = arith.constant 64 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %0 = tt.get_program_id y : i32
    %1 = tt.get_program_id z : i32
    %2 = tt.addptr %arg0, %1 : !tt.ptr<i32>, i32
    %3 = tt.load %2 : !tt.ptr<i32>
    %4 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %5 = arith.cmpi slt, %4, %cst_14 : tensor<64xi32>
    %6 = tt.expand_dims %5 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %7 = tt.broadcast %6 : tensor<64x1xi1> -> tensor<64x128xi1>
    %8 = tt.splat %1 : i32 -> tensor<64x128xi32>
    %9 = arith.muli %8, %cst_13 : tensor<64x128xi32>
    %10 = tt.expand_dims %4 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %11 = tt.broadcast %10 : tensor<64x1xi32> -> tensor<64x128xi32>
    %12 = arith.muli %11, %cst_12 : tensor<64x128xi32>
    %13 = arith.addi %9, %12 : tensor<64x128xi32>
    %14 = tt.splat %0 : i32 -> tensor<64x128xi32>
    %15 = arith.muli %14, %cst_11 : tensor<64x128xi32>
    %16 = arith.addi %13, %15 : tensor<64x128xi32>
    %17 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %18 = tt.expand_dims %17 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %19 = tt.broadcast %18 : tensor<1x128xi32> -> tensor<64x128xi32>
    %20 = arith.addi %16, %19 : tensor<64x128xi32>
    %21 = tt.splat %arg1 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %22 = tt.addptr %21, %20 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    %23 = tt.load %22, %7, %cst_10 : tensor<64x128x!tt.ptr<bf16>>
    %24 = arith.addi %3, %c63_i32 : i32
    %25 = arith.divsi %24, %c64_i32 : i32
    %26 = arith.cmpi sgt, %24, %c0_i32 : i32
    %27 = arith.extui %26 : i1 to i32
    %28 = arith.cmpi slt, %24, %c0_i32 : i32
    %29 = arith.extui %28 : i1 to i32
    %30 = arith.subi %27, %29 : i32
    %31 = arith.cmpi ne, %30, %c1_i32 : i32
    %32 = arith.remsi %24, %c64_i32 : i32
    %33 = arith.cmpi ne, %32, %c0_i32 : i32
    %34 = arith.andi %31, %33 : i1
    %35 = arith.subi %25, %c1_i32 : i32
    %36 = arith.select %34, %35, %25 : i32
    %37 = arith.maxsi %36, %c0_i32 : i32
    %38 = arith.minsi %37, %c16_i32 : i32
    %39:3 = scf.for %arg6 = %c0_i32 to %38 step %c1_i32 iter_args(%arg7 = %cst_9, %arg8 = %cst_8, %arg9 = %cst_7) -> (tensor<64x128xf32>, tensor<64xf32>, tensor<64xf32>)  : i32 {
      %59 = arith.muli %arg6, %c64_i32 : i32
      %60 = tt.splat %59 : i32 -> tensor<64xi32>
      %61 = arith.addi %60, %4 : tensor<64xi32>
      %62 = tt.splat %3 : i32 -> tensor<64xi32>
      %63 = arith.cmpi slt, %61, %62 : tensor<64xi32>
      %64 = tt.expand_dims %63 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
      %65 = tt.broadcast %64 : tensor<64x1xi1> -> tensor<64x128xi1>
      %66 = arith.muli %8, %cst_6 : tensor<64x128xi32>
      %67 = tt.expand_dims %61 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %68 = tt.broadcast %67 : tensor<64x1xi32> -> tensor<64x128xi32>
      %69 = arith.muli %68, %cst_12 : tensor<64x128xi32>
      %70 = arith.addi %66, %69 : tensor<64x128xi32>
      %71 = arith.addi %70, %15 : tensor<64x128xi32>
      %72 = arith.addi %71, %19 : tensor<64x128xi32>
      %73 = tt.splat %arg2 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %74 = tt.addptr %73, %72 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %75 = tt.load %74, %65, %cst_10 : tensor<64x128x!tt.ptr<bf16>>
      %76 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %77 = tt.addptr %76, %72 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %78 = tt.load %77, %65, %cst_10 : tensor<64x128x!tt.ptr<bf16>>
      %79 = tt.trans %75 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %80 = tt.dot %23, %79, %cst_5, inputPrecision = tf32 : tensor<64x128xbf16> * tensor<128x64xbf16> -> tensor<64x64xf32>
      %81 = tt.expand_dims %4 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
      %82 = tt.broadcast %81 : tensor<1x64xi32> -> tensor<64x64xi32>
      %83 = tt.splat %59 : i32 -> tensor<64x64xi32>
      %84 = arith.addi %83, %82 : tensor<64x64xi32>
      %85 = tt.splat %3 : i32 -> tensor<64x64xi32>
      %86 = arith.cmpi slt, %84, %85 : tensor<64x64xi32>
      %87 = arith.select %86, %80, %cst_4 : tensor<64x64xi1>, tensor<64x64xf32>
      %88 = "tt.reduce"(%87) <{axis = 1 : i32}> ({
      ^bb0(%arg10: f32, %arg11: f32):
        %105 = arith.maxnumf %arg10, %arg11 : f32
        tt.reduce.return %105 : f32
      }) : (tensor<64x64xf32>) -> tensor<64xf32>
      %89 = arith.maxnumf %arg8, %88 : tensor<64xf32>
      %90 = arith.subf %arg8, %89 : tensor<64xf32>
      %91 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %90 : tensor<64xf32> -> tensor<64xf32>
      %92 = tt.expand_dims %89 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
      %93 = arith.subf %cst_3, %92 : tensor<64x1xf32>
      %94 = tt.broadcast %93 : tensor<64x1xf32> -> tensor<64x64xf32>
      %95 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %87, %cst_2, %94 : tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
      %96 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %95 : tensor<64x64xf32> -> tensor<64x64xf32>
      %97 = "tt.reduce"(%96) <{axis = 1 : i32}> ({
      ^bb0(%arg10: f32, %arg11: f32):
        %105 = arith.addf %arg10, %arg11 : f32
        tt.reduce.return %105 : f32
      }) : (tensor<64x64xf32>) -> tensor<64xf32>
      %98 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %arg9, %91, %97 : tensor<64xf32>, tensor<64xf32>, tensor<64xf32> -> tensor<64xf32>
      %99 = tt.expand_dims %91 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
      %100 = tt.broadcast %99 : tensor<64x1xf32> -> tensor<64x128xf32>
      %101 = arith.mulf %arg7, %100 : tensor<64x128xf32>
      %102 = arith.truncf %96 : tensor<64x64xf32> to tensor<64x64xbf16>
      %103 = tt.dot %102, %78, %cst_9, inputPrecision = tf32 : tensor<64x64xbf16> * tensor<64x128xbf16> -> tensor<64x128xf32>
      %104 = arith.addf %101, %103 : tensor<64x128xf32>
      scf.yield %104, %89, %98 : tensor<64x128xf32>, tensor<64xf32>, tensor<64xf32>
    }
    %40 = arith.cmpf ogt, %39#2, %cst_7 : tensor<64xf32>
    %41 = arith.select %40, %39#2, %cst_1 : tensor<64xi1>, tensor<64xf32>
    %42 = tt.expand_dims %41 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
    %43 = tt.broadcast %42 : tensor<64x1xf32> -> tensor<64x128xf32>
    %44 = arith.divf %39#0, %43 : tensor<64x128xf32>
    %45 = tt.extern_elementwise %41 {libname = "", libpath = "", pure = true, symbol = "__nv_logf"} : (tensor<64xf32>) -> tensor<64xf32>
    %46 = arith.mulf %45, %cst_0 : tensor<64xf32>
    %47 = arith.addf %39#1, %46 : tensor<64xf32>
    %48 = arith.truncf %44 : tensor<64x128xf32> to tensor<64x128xbf16>
    %49 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %50 = tt.addptr %49, %20 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    tt.store %50, %48, %7 : tensor<64x128x!tt.ptr<bf16>>
    %51 = tt.splat %1 : i32 -> tensor<64xi32>
    %52 = arith.muli %51, %cst : tensor<64xi32>
    %53 = tt.splat %0 : i32 -> tensor<64xi32>
    %54 = arith.muli %53, %cst_14 : tensor<64xi32>
    %55 = arith.addi %52, %54 : tensor<64xi32>
    %56 = arith.addi %55, %4 : tensor<64xi32>
    %57 = tt.splat %arg5 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %58 = tt.addptr %57, %56 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %58, %47, %5 : tensor<64x!tt.ptr<f32>>
    tt.return
  }
}
